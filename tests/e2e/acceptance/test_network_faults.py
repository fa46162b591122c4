"""Networks under attack: hosts cut and lost, agents killed, rules wrecked, sources forged."""

import subprocess
import sys
import time
from itertools import count

import pytest

from cli.client import Client
from cli.playground import fleet as plans
from pyswarm_core.specs import (
    ContainerSpec,
    NetworkAttachment,
    ReplicatedMode,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
)
from tests.e2e.acceptance.fleet import IMAGE, PATIENCE_S, Fleet
from tests.e2e.acceptance.web import ask, ask_from_outside

HOSTS = {"host1": "10.99.0.1", "host2": "10.99.0.2", "host3": "10.99.0.3"}
_ports = count(19080)


@pytest.fixture
def published(fleet: Fleet, service: str) -> tuple[str, int]:
    """A service on every host, on the network app and published; its name and port."""
    port = next(_ports)
    fleet(
        *("service", "create", "--name", service, "--mode", "global", "--network", "app"),
        *("-p", f"{port}:80", IMAGE),
    )
    return service, port


def on_hosts(fleet: Fleet, service: str) -> dict[str, str]:
    """Host to task id."""
    return {task["Node"]: task["ID"] for task in fleet.running(service)}


def all_answer(fleet: Fleet, address: str, port: int, backends: int) -> bool:
    """Whether many requests in a row are all answered, by that many backends."""
    answers = [ask_from_outside(fleet, address, port) for _ in range(8 * backends)]
    return all(answers) and len({a.hostname for a in answers if a}) == backends


def test_a_cut_host_is_left_out_and_comes_back(fleet: Fleet, published: tuple[str, int]) -> None:
    service, port = published
    task = on_hosts(fleet, service)["host1"]
    fleet("playground", "cut", "host3")
    fleet.until(lambda: all_answer(fleet, HOSTS["host1"], port, 2), "the others answer for it")
    assert all(ask(fleet, task, service) for _ in range(10))
    time.sleep(5)
    fleet("playground", "heal", "host3")
    fleet.until(lambda: all_answer(fleet, HOSTS["host3"], port, 3), "it is back, both ways")


def test_a_lost_host_holds_up_no_deploy(fleet: Fleet, service: str) -> None:
    port = next(_ports)
    fleet(
        *("service", "create", "--name", service, "--replicas", "4", "--network", "app"),
        *("-p", f"{port}:80", IMAGE),
    )
    fleet("playground", "kill", "host2")
    fleet("service", "update", "--env-add", "GREETING=hello", service)
    fleet.until(lambda: all_answer(fleet, HOSTS["host1"], port, 4), "four new ones answer")
    fleet("playground", "heal", "host2")
    fleet.until(
        lambda: {row["Status"] for row in fleet.rows("node", "ls")} == {"Ready"}, "it is back"
    )
    fleet.until(lambda: all_answer(fleet, HOSTS["host2"], port, 4), "it lets connections in")


def test_an_agents_death_disturbs_no_traffic(fleet: Fleet, published: tuple[str, int]) -> None:
    service, port = published
    task = on_hosts(fleet, service)["host2"]
    for host in HOSTS:
        fleet.kill(host)
    for address in HOSTS.values():
        assert all(ask_from_outside(fleet, address, port) for _ in range(10)), address
    fleet.until(lambda: ask(fleet, task, service), "names are answered again")


def test_wrecked_rules_and_entries_are_mended(fleet: Fleet, published: tuple[str, int]) -> None:
    service, port = published
    task = on_hosts(fleet, service)["host1"]
    tables = [
        line.split()[-1]
        for line in fleet.on("host1", "nft", "list", "tables").out.splitlines()
        if "pyswarm" in line
    ]
    assert tables
    for table in tables:
        assert fleet.on("host1", "nft", "delete", "table", "inet", table).code == 0
    fdb = [
        line.split()
        for line in fleet.on("host1", "bridge", "fdb", "show").out.splitlines()
        if " dst " in line
    ]
    for mac, _, device, _, vtep, *_ in fdb:
        fleet.on("host1", "bridge", "fdb", "del", mac, "dev", device, "dst", vtep)
    assert ask_from_outside(fleet, HOSTS["host1"], port) is None
    fleet.until(lambda: all_answer(fleet, HOSTS["host1"], port, 3), "the mesh is mended")
    fleet.until(lambda: all(ask(fleet, task, service) for _ in range(9)), "and the overlay")


def test_a_task_that_wrecks_its_own_rules_harms_only_itself(fleet: Fleet, service: str) -> None:
    fleet(
        *("service", "create", "--name", service, "--mode", "global", "--network", "app"),
        *("--cap-add", "NET_ADMIN", IMAGE),
    )
    on = on_hosts(fleet, service)
    wrecked, other = on["host1"], on["host2"]
    assert fleet.inside(wrecked, "nft", "flush", "ruleset").code == 0
    assert all(ask(fleet, other, service) for _ in range(6))
    fleet.until(lambda: ask(fleet, wrecked, service), "its own are mended")


def test_forged_sources_do_not_leave_their_bridge(fleet: Fleet, service: str) -> None:
    fleet("service", "create", "--name", service, "--mode", "global", "--network", "app", IMAGE)
    on = on_hosts(fleet, service)
    target = fleet.address(on["host2"])
    forge = ["nsenter", "-t", str(fleet.pid(on["host1"])), "-n", sys.executable, "-c", _FORGE]
    listen = ["nsenter", "-t", str(fleet.pid(on["host2"])), "-n", sys.executable, "-c", _LISTEN]
    with subprocess.Popen([*listen, "4"], stdout=subprocess.PIPE, text=True) as listening:
        time.sleep(1)
        for source in ("203.0.113.7", fleet.address(on["host1"])):
            subprocess.run([*forge, source, target], check=True, timeout=10)
        heard_from = listening.communicate(timeout=PATIENCE_S)[0].split()
    assert set(heard_from) == {fleet.address(on["host1"])}


_LISTEN = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 4444))
server.settimeout(float(sys.argv[1]))
found = []
try:
    while True:
        found.append(server.recvfrom(100)[1][0])
except TimeoutError:
    print(*(found or ["nothing"]))
"""
_FORGE = """
import socket, struct, sys
source, target = map(socket.inet_aton, sys.argv[1:])
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
udp = struct.pack("!HHHH", 4445, 4444, 8 + 2, 0) + b"hi"
head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, source, target)
for _ in range(3):
    raw.sendto(head + udp, (sys.argv[2], 0))
"""


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
        mode=ServiceMode(replicated=ReplicatedMode(replicas=replicas)),
        task_template=TaskSpec(
            container_spec=ContainerSpec(image=IMAGE),
            networks=(NetworkAttachment(target=network),),
        ),
    )
