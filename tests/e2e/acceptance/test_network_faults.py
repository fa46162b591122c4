"""Networks under attack: hosts lost for a while and for good, forged sources, many names."""

import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from cli.client import Client
from cli.playground import fleet as plans
from pyswarm_core.specs import (
    ContainerSpec,
    NetworkAttachment,
    ReplicatedMode,
    ServiceSpec,
    TaskSpec,
)
from tests.e2e.acceptance.fleet import IMAGE, PATIENCE_S, Fleet
from tests.e2e.acceptance.test_killed import settled
from tests.e2e.acceptance.test_names import lookup
from tests.e2e.acceptance.web import LATE_S, answers, ask, ask_from, metric
from tests.fixtures.netns import inside

pytestmark = pytest.mark.slow

HOSTS = {"host1": "10.99.0.1", "host2": "10.99.0.2", "host3": "10.99.0.3"}
_ports = count(19080)


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    """Its hosts lose power, the last one for good."""
    return own_fleet


@pytest.fixture
def published(fleet: Fleet, service: str) -> tuple[str, int]:
    """A service on every host, on the network app and published; its name and port."""
    port = next(_ports)
    fleet(
        *("service", "create", "--name", service, "--mode", "global", "--network", "app"),
        *("-p", f"{port}:80", IMAGE),
    )
    for address in HOSTS.values():
        answers(fleet, "lan", address, port, len(fleet.running(service)))
    return service, port


def on_hosts(fleet: Fleet, service: str) -> dict[str, str]:
    """Host to task id."""
    return {task["Node"]: task["ID"] for task in fleet.running(service)}


def test_a_lost_hosts_replicas_run_elsewhere_and_it_returns_empty(
    fleet: Fleet, service: str
) -> None:
    fleet("service", "create", "--name", service, "--network", "app", "--replicas", "6", IMAGE)
    fleet("playground", "kill", "host3")
    fleet.until(
        lambda: (
            [task["Node"] for task in fleet.running(service)].count("host3") == 0
            and len(fleet.running(service)) == 6
        ),
        "six run on the others",
    )
    fleet("playground", "heal", "host3")
    settled(fleet, service, 6)


def test_a_lost_host_holds_up_no_deploy(fleet: Fleet, service: str) -> None:
    port = next(_ports)
    fleet(
        *("service", "create", "--name", service, "--replicas", "4", "--network", "app"),
        *("-p", f"{port}:80", IMAGE),
    )
    fleet("playground", "kill", "host2")
    fleet("service", "update", "--env-add", "GREETING=hello", service)
    answers(fleet, "lan", HOSTS["host1"], port, 4)
    fleet("playground", "heal", "host2")
    answers(fleet, "lan", HOSTS["host2"], port, 4)


def test_a_healed_host_accepts_connections_as_soon_as_heal_returns(
    fleet: Fleet, published: tuple[str, int]
) -> None:
    _, port = published
    fleet("playground", "kill", "host2")
    fleet("playground", "heal", "host2")  # before the leader has missed its agent
    with ThreadPoolExecutor(20) as pool:
        there = ("lan", HOSTS["host2"], port, LATE_S)
        asked = [pool.submit(ask_from, fleet, *there) for _ in range(20)]
    assert all(one.result() for one in asked)


def test_forged_sources_do_not_leave_their_bridge(fleet: Fleet, service: str) -> None:
    fleet("service", "create", "--name", service, "--mode", "global", "--network", "app", IMAGE)
    on = on_hosts(fleet, service)
    own, target, neighbour = (fleet.address(on[host]) for host in ("host1", "host2", "host3"))
    forged = (neighbour, "203.0.113.7")
    dropped = metric(fleet, HOSTS["host1"], "spoofed_packets_total")
    server = inside(fleet.netns(on["host2"]), _udp_server)
    cable = inside(fleet.netns("lan"), lambda: _sniffer("host1"))
    with server, cable:
        for source in (*forged, own):
            inside(fleet.netns(on["host1"]), lambda s=source: _forge(s, target))  # type: ignore[misc]
        # All go one way, one after the other: once the honest ones are there, the others would be.
        heard = {server.recvfrom(100)[1][0] for _ in range(_TIMES)}
        frames = _frames(cable)
    assert heard == {own}
    inner = [frame for frame in frames if socket.inet_aton(target) in frame and _WORD in frame]
    assert len(inner) == _TIMES
    assert all(socket.inet_aton(own) in frame for frame in inner)
    all_forged = dropped + _TIMES * len(forged)
    fleet.until(
        lambda: metric(fleet, HOSTS["host1"], "spoofed_packets_total") == all_forged, "all count"
    )


_TIMES = 3
_WORD = b"who sent this?"


def _udp_server() -> socket.socket:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("0.0.0.0", 4444))
    server.settimeout(PATIENCE_S)
    return server


def _sniffer(device: str) -> socket.socket:
    """Takes every frame that comes out of a cable."""
    taken = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    taken.bind((device, 0))
    taken.settimeout(0.2)
    return taken


def _frames(taken: socket.socket) -> list[bytes]:
    """What was seen until nothing has come for a moment or enough has."""
    found: list[bytes] = []
    try:
        while len(found) < 10_000:
            found.append(taken.recv(65536))
    except TimeoutError:
        pass
    return found


def _forge(source: str, target: str) -> None:
    """Send datagrams to the target that claim to come from the source."""
    udp = struct.pack("!HHHH", 4445, 4444, 8 + len(_WORD), 0) + _WORD
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + ends
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for _ in range(_TIMES):
            raw.sendto(head + udp, (target, 0))


def test_two_hundred_services_on_one_network(fleet: Fleet, service: str) -> None:
    fleet("network", "create", "-d", "overlay", "wide")
    names = [f"{service}n{number}" for number in range(200)]
    try:
        with Client(f"unix://{plans.load(fleet.name).socket}") as client:
            for name in names:
                replicas = int(name in (names[0], names[-1]))
                client.create_service(_waiting(name, "wide", replicas))
        fleet.until(lambda: fleet.running(names[0]) and fleet.running(names[-1]), "two run")
        task = fleet.running(names[0])[0]["ID"]
        fleet.until(lambda: ask(fleet, task, names[-1]), "the last is reached by its name")
    finally:
        fleet.run("service", "rm", *names)
        fleet.until(lambda: fleet.run("network", "rm", "wide").code == 0, "the network is gone")


def _waiting(name: str, network: str, replicas: int) -> ServiceSpec:
    return ServiceSpec(
        name=name,
        mode=ReplicatedMode(replicas=replicas),
        task_template=TaskSpec(
            container_spec=ContainerSpec(image=IMAGE),
            networks=(NetworkAttachment(target=network),),
        ),
    )


def test_a_host_lost_for_good_is_forgotten_by_all(fleet: Fleet, published: tuple[str, int]) -> None:
    """The last test of this fleet: its third host does not come back."""
    service, port = published
    fleet(
        "service", "create", "--name", f"{service}r", "--network", "app", "--replicas", "6", IMAGE
    )
    lost = HOSTS["host3"]
    assert _traces(fleet, "host1", lost)
    fleet("playground", "kill", "host3")
    fleet.until(
        lambda: (
            [task["Node"] for task in fleet.running(f"{service}r")].count("host3") == 0
            and len(fleet.running(f"{service}r")) == 6
        ),
        "its replicas run on the others",
    )
    fleet("node", "rm", "host3")
    for host in ("host1", "host2"):
        fleet.until(lambda h=host: not _traces(fleet, h, lost), f"{host} has no way to it")  # type: ignore[misc]
        answers(fleet, "lan", HOSTS[host], port, 2)
    task = on_hosts(fleet, service)["host1"]
    found = {fleet.address(task["ID"]) for task in fleet.running(f"{service}r")}
    assert lookup(fleet, task, f"tasks.{service}r") == found
    assert len(fleet.rows("node", "ls")) == 2


def _traces(fleet: Fleet, host: str, lost: str) -> list[str]:
    """What a host's kernel says of a tunnel's other end, its neighbours apart: those age."""
    said = fleet.on(host, "ip", "route").out + fleet.on(host, "bridge", "fdb", "show").out
    return [line for line in said.splitlines() if lost in line.split()]
