"""Virtual addresses in tasks' namespaces: who answers, what outlives a change, what is repaired."""

import asyncio
import errno
import itertools
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent.network.base import (
    RESOLVER_ADDRESS,
    RESOLVER_PORT,
    Attachment,
    Backend,
    DesiredEndpoint,
    DesiredOverlay,
)
from agent.network.netlink import NETFILTER, Netlink
from agent.network.vips import ruleset
from agent.network.vips.nftables import INET4
from agent.network.vips.programs import NetlinkVips, forget_dumped_flows, forget_flows
from agent.network.vips.ruleset import Ruleset, Vip
from pyswarm_core.ids import NetworkId, ServiceId, TaskId
from tests.fixtures.netns import inside
from tests.integration.network.hosts import Host, Rig, sh
from tests.integration.network.tables import assert_same, table
from tests.integration.network.traffic import PORT, Listeners, open_socket, outcome

APP = NetworkId("netapp")
VIP = "10.128.255.254"
OVERLAY = DesiredOverlay(
    network_id=APP, name="app", vni=4097, subnet="10.128.0.0/16", node_number=1,
    local_blocks=("10.128.0.0/24",),
)  # fmt: skip


def endpoint(*numbers: int, vip: str = VIP, name: str = "web") -> DesiredEndpoint:
    """A service with the tasks of these numbers as backends."""
    backends = tuple(Backend(task_id=TaskId(f"t{n}"), slot=n, address=at(n)) for n in numbers)
    return DesiredEndpoint(
        service_id=ServiceId(name), service_name=name, network_id=APP, vip=vip, backends=backends
    )


def at(number: int) -> str:
    return f"10.128.0.{number}"


class Tasks:
    """Numbered tasks of one host, and the services that they see."""

    _rounds = itertools.count()

    def __init__(self, host: Host) -> None:
        self.host = host
        self._round = next(self._rounds)

    def id(self, number: int) -> TaskId:
        """New in every test: the kernel removes a namespace some time after its last use."""
        return TaskId(f"r{self._round}t{number}")

    def sync(self, *endpoints: DesiredEndpoint) -> None:
        self.host.run(self.host.dataplane.sync([OVERLAY], endpoints))

    def start(self, number: int) -> str:
        place = Attachment(network_id=APP, address=at(number))
        return self.host.run(self.host.dataplane.attach(self.id(number), [place]))

    def drifts(self) -> list[str]:
        return [drift.detail for drift in self.host.run(self.host.dataplane.check())]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("vips"), 1)
    yield made
    made.close()


@pytest.fixture
def tasks(rig: Rig) -> Iterator[Tasks]:
    host = rig.hosts[0]
    host.run(host.dataplane.sync([OVERLAY]))
    yield Tasks(host)
    for task in host.run(host.dataplane.found()):
        host.run(host.dataplane.detach(task))
    host.run(host.dataplane.sync(()))


def test_nft_reads_our_bytes_as_they_were_meant(tasks: Tasks) -> None:
    tasks.sync(endpoint(2, 3), endpoint(vip="10.128.255.253", name="idle"))
    found = sh(f"nsenter --net={tasks.start(2)} nft -s list table inet pyswarm")
    lines = [line.strip() for line in found.splitlines()]
    for line in (
        "type nat hook output priority -100; policy accept;",
        "ip daddr vmap @vips",
        "dnat ip to ip daddr . numgen random mod 2 map @backends",
        "meta l4proto udp add @udp { ip daddr }",
        "meta l4proto tcp reject with tcp reset",
    ):
        assert line in lines, found
    for element in (
        f"{VIP} : goto one_of_2",
        "10.128.255.253 : goto refused",
        f"{VIP} . 0x00000000 : {at(2)}",
        f"{VIP} . 0x00000001 : {at(3)}",
    ):
        assert element in found


def test_nothing_is_tracked_before_there_is_a_virtual_address(tasks: Tasks) -> None:
    def tracked(netns: str) -> int:
        count = Path("/proc/sys/net/netfilter/nf_conntrack_count")
        return inside(netns, lambda: int(count.read_text()))

    caller, backend = tasks.start(2), tasks.start(3)
    with Listeners([backend]) as listeners, open_socket(caller) as direct:
        direct.connect((at(3), PORT))
        far, _ = listeners.accept()
        assert [tracked(netns) for netns in (caller, backend)] == [0, 0]
        tasks.sync(endpoint(3))
        direct.send(b"goes on")
        assert far.recv(20) == b"goes on"
        assert listeners.call(caller, VIP) == at(3)
        assert tracked(caller)
        far.close()


def test_every_change_results_in_what_a_replacement_would(tasks: Tasks) -> None:
    """Twenty random changes, each compared with the complete table in another namespace."""
    changed, replaced = tasks.start(2), tasks.start(3)
    draw = random.Random(7)

    def some(dual: bool) -> Ruleset:
        vips = {}
        for number in draw.sample(range(9), draw.randrange(1, 6)):
            count = draw.choice((0, 1, 2, 3, 1500))
            hosts = draw.sample(range(2, 9000), count)
            vips[f"10.128.255.{number}"] = Vip(
                address=f"10.128.255.{number}",
                backends=tuple(f"10.128.{n // 250}.{n % 250}" for n in hosts),
                address6=f"fd00::{number}" if dual else "",
                backends6=tuple(f"fd00::1:{n}" for n in hosts) if dual else (),
            )
        return Ruleset(vips, dual)

    with netfilter(changed) as one, netfilter(replaced) as other:
        now = some(False)
        one.commit(ruleset.replacement(now))
        for turn in range(20):
            before, now = now, some(dual=turn >= 10)
            if batch := ruleset.change(before, now):
                one.commit(batch)
            other.commit(ruleset.replacement(now))
            assert_same(changed, replaced)


def netfilter(netns: str) -> Netlink:
    return inside(netns, lambda: Netlink(NETFILTER))


def test_a_service_without_backends_is_refused_at_once(tasks: Tasks) -> None:
    tasks.sync(endpoint())
    netns = tasks.start(2)
    with open_socket(netns) as stream, open_socket(netns, socket.SOCK_DGRAM) as near:
        stream.settimeout(60)
        near.settimeout(60)
        near.connect((VIP, PORT))
        # A datagram's sender gets an error at once, and a second one from the ICMP message.
        for work, number in (
            (partial(stream.connect, (VIP, PORT)), errno.ECONNREFUSED),
            (partial(near.send, b"?"), errno.EPERM),
            (partial(near.recv, 1), errno.ECONNREFUSED),
        ):
            answer = outcome(work)
            assert isinstance(answer, OSError)
            assert answer.errno == number


def test_a_connection_outlives_its_backends_departure_and_new_ones_go_elsewhere(
    tasks: Tasks,
) -> None:
    tasks.sync(endpoint(3))
    caller, backends = tasks.start(2), [tasks.start(3), tasks.start(4)]
    with Listeners(backends) as listeners, open_socket(caller) as near:
        near.connect((VIP, PORT))
        far, where = listeners.accept()
        assert where == at(3)
        tasks.sync(endpoint(4))
        assert {listeners.call(caller, VIP) for _ in range(10)} == {at(4)}
        tasks.sync()
        near.send(b"still here")
        assert far.recv(20) == b"still here"
        far.close()


def test_an_idle_connection_is_remembered_for_days_and_a_half_closed_one_for_hours(
    tasks: Tasks,
) -> None:
    tasks.sync(endpoint(3))
    caller, backend = tasks.start(2), tasks.start(3)
    with Listeners([backend]) as listeners, open_socket(caller) as near:
        near.connect((VIP, PORT))
        far, _ = listeners.accept()
        assert remembered_s(caller, "ESTABLISHED") > 4 * 24 * 3600
        near.shutdown(socket.SHUT_WR)
        assert far.recv(1) == b""
        assert remembered_s(caller, "CLOSE_WAIT") > 2 * 3600
        far.send(b"late")
        assert near.recv(4) == b"late"
        far.close()


def remembered_s(netns: str, state: str) -> int:
    """The remaining conntrack timeout of the connection to the VIP, once it is in that state."""
    line = ""
    for _ in range(50):
        known = sh(f"nsenter --net={netns} cat /proc/net/nf_conntrack").splitlines()
        (line,) = [line for line in known if f"dst={VIP} " in line]
        if f" {state} " in line:
            return int(line.split()[4])
    raise AssertionError(line)


@pytest.mark.parametrize("left", [[3], list(range(3, 40))], ids=["one", "many"])
def test_udp_moves_to_a_living_backend_with_the_next_datagram(
    tasks: Tasks, left: list[int]
) -> None:
    tasks.sync(endpoint(*left))
    caller, backends = tasks.start(2), [tasks.start(n) for n in (3, 50)]
    with ExitStack() as stack:
        listeners = stack.enter_context(Listeners(backends))
        # Of many backends only t3 exists: enough flows are started for one to reach it.
        near = stack.enter_context(open_socket(caller, socket.SOCK_DGRAM))
        near.sendto(b"!", (VIP, PORT))
        while not listeners.takers(0.01):
            near = stack.enter_context(open_socket(caller, socket.SOCK_DGRAM))
            near.sendto(b"!", (VIP, PORT))
        near.sendto(b"!", (VIP, PORT))
        assert listeners.takers() == [0]
        tasks.sync(endpoint(50))
        near.sendto(b"!", (VIP, PORT))
        assert listeners.takers() == [1]


@pytest.mark.parametrize("forget", [forget_flows, forget_dumped_flows])
def test_only_the_flows_of_udp_to_a_backend_that_left_are_forgotten(
    tasks: Tasks, forget: Any
) -> None:
    tasks.sync(endpoint(3), endpoint(4, vip="10.128.255.1", name="other"))
    caller, backends = tasks.start(2), [tasks.start(3), tasks.start(4)]
    with (
        Listeners(backends) as listeners,
        open_socket(caller) as stream,
        open_socket(caller, socket.SOCK_DGRAM) as near,
        netfilter(caller) as socket_,
    ):
        stream.connect((VIP, PORT))
        for address in (VIP, "10.128.255.1"):
            near.sendto(b"!", (address, PORT))
        forget(socket_, INET4, socket.inet_aton(VIP), [socket.inet_aton(at(3))])
        flows = sh(f"nsenter --net={caller} cat /proc/net/nf_conntrack").splitlines()
        kinds = sorted((line.split()[2], f"dst={VIP}" in line) for line in flows)
        assert kinds == [("tcp", True), ("udp", False)]
        listeners.accept()[0].close()


def test_no_connection_fails_while_the_table_changes(tasks: Tasks) -> None:
    caller, backends = tasks.start(2), [tasks.start(n) for n in (3, 4, 5)]
    with Listeners(backends) as listeners, netfilter(caller) as socket_:
        for listener in listeners.tcp:
            listener.listen(4096)
        sets = [
            Ruleset({VIP: Vip(address=VIP, backends=tuple(map(at, ns)))})
            for ns in ((3, 4, 5), (3,), (5, 4), (4, 5, 3))
        ]
        socket_.commit(ruleset.replacement(sets[0]))
        failures: list[OSError] = []
        done = threading.Event()
        made = 0

        def connect_on_and_on() -> None:
            nonlocal made
            while not done.is_set():
                with open_socket(caller) as near:
                    answer = outcome(partial(near.connect, (VIP, PORT)))
                if isinstance(answer, OSError):
                    failures.append(answer)
                made += 1
                if made % 100 == 0:
                    empty(listeners)

        thread = threading.Thread(target=connect_on_and_on)
        thread.start()
        for turn in range(5000):
            before, now = sets[turn % 4], sets[(turn + 1) % 4]
            socket_.commit(ruleset.change(before, now))
        done.set()
        thread.join()
    assert made > 20
    assert failures == []


def empty(listeners: Listeners) -> None:
    for listener in listeners.tcp:
        listener.setblocking(False)
        while not isinstance(far := outcome(listener.accept), OSError):
            far[0].close()


def test_names_are_asked_for_at_a_port_of_the_agents_own(tasks: Tasks) -> None:
    netns = tasks.start(2)
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with (
            open_socket(netns, kind) as agent,
            open_socket(netns, kind) as own,
            open_socket(netns, kind) as near,
        ):
            agent.bind((RESOLVER_ADDRESS, RESOLVER_PORT))
            own.bind(("0.0.0.0", 53))
            if kind == socket.SOCK_STREAM:
                agent.listen()
                own.listen()
                near.connect((RESOLVER_ADDRESS, 53))
                far, _ = agent.accept()
                far.close()
                continue
            near.sendto(b"?", (RESOLVER_ADDRESS, 53))
            question, asker = agent.recvfrom(10)
            agent.sendto(question + b"!", asker)
            assert near.recvfrom(10) == (b"?!", (RESOLVER_ADDRESS, 53))


@pytest.mark.parametrize(
    "command",
    ["delete table inet pyswarm", "flush chain inet pyswarm output_again", "flush ruleset",
     f"delete element inet pyswarm vips {{ {VIP} }}"],
)  # fmt: skip
def test_what_a_task_does_to_its_rules_is_noticed_healed_and_its_own_loss(
    tasks: Tasks, command: str
) -> None:
    tasks.sync(endpoint(2, 3))
    first, second = tasks.start(2), tasks.start(3)
    whole = table(second)
    sh(f"nsenter --net={first} nft '{command}'")
    assert tasks.drifts() == [f"task {tasks.id(2)}"]
    assert table(second) == whole
    tasks.sync(endpoint(2, 3))
    assert tasks.drifts() == []
    assert table(first) == whole


def test_a_restarted_agent_mends_without_cutting_and_moves_stale_udp(tasks: Tasks) -> None:
    tasks.sync(endpoint(3))
    caller, backends = tasks.start(2), [tasks.start(3), tasks.start(4)]
    with (
        Listeners(backends) as listeners,
        open_socket(caller) as stream,
        open_socket(caller, socket.SOCK_DGRAM) as near,
    ):
        stream.connect((VIP, PORT))
        far, _ = listeners.accept()
        near.sendto(b"!", (VIP, PORT))
        assert listeners.takers() == [0]
        tasks.host.restart()
        tasks.sync(endpoint(4))
        for number in (2, 3, 4):
            tasks.start(number)
        assert tasks.drifts() == []
        stream.send(b"still here")
        assert far.recv(20) == b"still here"
        far.close()
        near.sendto(b"!", (VIP, PORT))
        assert listeners.takers() == [1]
        assert listeners.call(caller, VIP) == at(4)


def test_a_change_of_endpoints_alone_does_not_read_the_host_but_the_next_sync_does(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    overlay = tasks.host.dataplane.overlay
    states = overlay.states

    def counted(found: Any) -> Any:
        reads.append(1)
        return states(found)

    monkeypatch.setattr(overlay, "states", counted)
    tasks.sync(endpoint(2))
    assert reads == []
    tasks.sync(endpoint(2))
    assert reads == [1]


def test_a_task_attached_beside_a_change_ends_with_the_newest_table(tasks: Tasks) -> None:
    host = tasks.host

    async def at_once() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(2, 22):
                place = Attachment(network_id=APP, address=at(number))
                group.create_task(host.dataplane.attach(tasks.id(number), [place]))
                group.create_task(host.dataplane.sync([OVERLAY], [endpoint(*range(2, number + 1))]))

    host.run(at_once())
    for number in range(2, 22):
        [backends] = (
            thing["map"]
            for thing in table(str(host.directory / tasks.id(number)))
            if thing.get("map", {}).get("name") == "backends"
        )
        assert len(backends["elem"]) == 20


def test_a_namespace_and_its_descriptor_go_with_the_task(tasks: Tasks) -> None:
    tasks.sync(endpoint(2))
    for number in (2, 3, 4):
        tasks.start(number)
        tasks.host.run(tasks.host.dataplane.detach(tasks.id(number)))
    vips: NetlinkVips = tasks.host.dataplane.vips
    assert tasks.host.run(vips.check()) == ()
    assert vips._tasks == {}


def test_ipv6_goes_the_same_way(tasks: Tasks) -> None:
    """The table alone: IPv6 addresses on a single interface, which the task gets here."""
    netns = tasks.start(2)
    sh(f"""nsenter --net={netns} sh -ec '
        echo 0 > /proc/sys/net/ipv6/conf/all/disable_ipv6
        ip link set lo up; ip addr add fd00::2/64 dev lo nodad; ip addr add fd00::3/64 dev lo nodad
        ip -6 route add default dev lo'""")
    rules = Ruleset(
        {VIP: Vip(address=VIP, address6="fd00::ff", backends=(at(2),), backends6=("fd00::2",)),
         "10.128.255.1": Vip(address="10.128.255.1", address6="fd00::fe")},
        dual=True,
    )  # fmt: skip
    with netfilter(netns) as socket_, Listeners([netns], socket.AF_INET6) as listeners:
        socket_.commit(ruleset.replacement(rules))
        assert listeners.call(netns, "fd00::ff") == "fd00::2"
        with open_socket(netns, socket.SOCK_STREAM, socket.AF_INET6) as near:
            answer = outcome(lambda: near.connect(("fd00::fe", PORT)))
        assert isinstance(answer, OSError)
        assert answer.errno == errno.ECONNREFUSED


def test_sctp_is_led_like_any_other_protocol(tasks: Tasks) -> None:
    """The kernel here may lack SCTP sockets, so its first packet is crafted."""
    tasks.sync(endpoint(3))
    caller, backend = tasks.start(2), tasks.start(3)
    near = inside(caller, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 132))
    far = inside(backend, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 132))
    with near, far:
        far.settimeout(60)
        chunk = b"\1\0\0\x14" + b"\0\0\0\1" + b"\0\1\0\0" + b"\0\1\0\1" + b"\0\0\0\1"
        near.sendto(b"\x13\x88\x1f\x90" + b"\0" * 8 + chunk, (VIP, 0))
        packet = far.recv(200)
    assert packet[16:20] == socket.inet_aton(at(3))
    assert packet[22:24] == PORT.to_bytes(2)


def test_five_hundred_backends_and_two_hundred_services(tasks: Tasks) -> None:
    others = [endpoint(2, vip=f"10.128.254.{n}", name=f"s{n}") for n in range(200)]
    tasks.sync(endpoint(2), *others)
    netns = tasks.start(2)
    many = tuple(
        Backend(task_id=TaskId(f"b{n}"), slot=n, address=f"10.128.{n // 200}.{n % 200 + 2}")
        for n in range(500)
    )
    big = DesiredEndpoint(
        service_id=ServiceId("web"), service_name="web", network_id=APP, vip=VIP, backends=many
    )
    tasks.sync(big, *others)
    elements = {
        thing["map"]["name"]: len(thing["map"]["elem"]) for thing in table(netns) if "map" in thing
    }
    assert elements == {"vips": 201, "backends": 700}
