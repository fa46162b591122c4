"""One end of a network trace on real kernels: its findings on a working path, and on broken
ones.
"""

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from msgspec.structs import replace

from agent.network.base import Attachment, Backend, DesiredEndpoint, DesiredOverlay, Peer
from agent.network.names import Names
from agent.network.netns import Namespaces
from agent.tracing import Tracer
from pyswarm_core.errors import NotFound
from pyswarm_core.ids import NetworkId, ServiceId, TaskId
from pyswarm_core.traces import CLOSED, Facts, TraceProbe
from tests.integration.network.echo import echo
from tests.integration.network.hosts import Host, Rig, sh

APP, NAMES = NetworkId("netapp"), Names("tst")
VXLAN = NAMES.vxlan(APP)
HERE, THERE = "10.128.1.2", "10.128.2.2"
HERE6, THERE6 = "fd00:128::102", "fd00:128::202"


def overlay(host: Host) -> DesiredOverlay:
    other = 3 - host.number
    return DesiredOverlay(
        network_id=APP, name="app", vni=4097, subnet="10.128.0.0/16", subnet6="fd00:128::/64",
        node_number=host.number, local_blocks=(f"10.128.{host.number}.0/26",),
        peers=(
            Peer(
                node_number=other, address=f"192.168.77.{10 + other}",
                blocks=(f"10.128.{other}.0/26",),
            ),
        ),
    )  # fmt: skip


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Two hosts with a task each."""
    made = Rig(tmp_path_factory.mktemp("trace"), 2)
    for host in made.hosts:
        host.run(host.dataplane.sync([overlay(host)]))
        place = Attachment(network_id=APP, address=f"10.128.{host.number}.2")
        host.run(host.dataplane.attach(TaskId("t"), [place]))
    yield made
    made.close()


@pytest.fixture(autouse=True)
def repaired(rig: Rig) -> Iterator[None]:
    """What a test breaks is repaired, as an agent would."""
    yield
    for host in rig.hosts:
        host.run(host.dataplane.check())
        host.run(host.dataplane.sync([overlay(host)]))


def found(host: Host, **asked: object) -> Facts:
    async def exposed(task_id: TaskId, protocol: str) -> tuple[int, ...]:
        return (53,) if protocol == "udp" else (80,)

    def closes(address: str, port: int) -> bool:
        return (address, port) == (host.address, 2377)

    async def trace() -> Facts:
        with (
            closing(Namespaces(host.directory)) as spaces,
            closing(
                Tracer(host.dataplane, spaces, NAMES, lambda: 7, exposed, closes=closes)
            ) as tracer,
        ):
            return await tracer.trace(TraceProbe(**{"task_id": "t"} | asked))  # type: ignore[arg-type]

    return host.run(trace())


@pytest.mark.parametrize(("own", "other"), [(HERE, THERE), (HERE6, THERE6)])
def test_a_whole_path_has_no_difference_and_carries_full_packets(
    rig: Rig, own: str, other: str
) -> None:
    facts = found(rig.hosts[0], address=other, network_id=APP)
    assert (facts.revision, facts.differences, facts.dropping) == (7, (), ())
    assert facts.echo
    assert facts.full_echo
    assert (facts.echo.error, facts.full_echo.error, facts.full_echo.bytes) == ("", "", 1450)
    assert f"src {own}" in facts.task_route
    assert f"dev {VXLAN}" in facts.host_route


def test_a_closed_port_of_the_control_plane_is_named(rig: Rig) -> None:
    host = rig.hosts[0]
    closed = found(host, connect_to=(host.address,), port=2377).connections[0]
    other = found(host, connect_to=(host.address,), port=2378).connections[0]
    assert closed.error == f"{other.error}: {CLOSED}"
    udp = found(host, connect_to=(host.address,), port=2377, udp=True).connections[0]
    assert CLOSED not in udp.error


HARM: dict[str, tuple[Callable[[Host], object], str]] = {
    "no FDB entry": (
        lambda host: host.nsenter(f"bridge fdb del 02:70:00:00:00:02 dev {VXLAN}"), "host",
    ),
    "another MTU": (lambda host: host.ip(f"link set {VXLAN} mtu 1000"), "host"),
    "no forwarding": (
        lambda host: host.nsenter("sh -c 'echo 0 > /proc/sys/net/ipv4/ip_forward'"), "host",
    ),
    "no route": (lambda host: host.ip("route del 10.128.2.0/26"), "host"),
    "a foreign route": (lambda host: host.ip(f"route add {THERE} dev eth0"), "route"),
    "the host's rules": (
        lambda host: host.nsenter(f"nft flush chain inet {NAMES.table} forward"), "rules",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("harm", "where"), HARM.values(), ids=HARM)
def test_what_is_broken_on_the_host_is_reported_first(
    rig: Rig, harm: Callable[[Host], object], where: str
) -> None:
    host = rig.hosts[0]
    harm(host)
    try:
        assert found(host, address=THERE, network_id=APP).differences[0].where == where
    finally:
        sh(f"ip -n {host.name} route del {THERE} dev eth0 2>/dev/null || true")


def test_a_task_without_its_route_is_reported(rig: Rig) -> None:
    host = rig.hosts[0]
    sh(f"nsenter --net={host.directory}/t ip route del default")
    try:
        facts = found(host, address=THERE, network_id=APP)
        assert facts.task_route == ""
        assert facts.echo
        assert facts.echo.error == "Network is unreachable"
    finally:
        sh(f"nsenter --net={host.directory}/t ip route add default via 10.128.1.1")


@pytest.mark.parametrize(("udp", "port"), [(False, 80), (True, 53)])
@pytest.mark.parametrize("address", [THERE, THERE6])
def test_connections_and_listeners(rig: Rig, udp: bool, port: int, address: str) -> None:
    here, there = rig.hosts
    netns, six = f"{there.directory}/t", ":" in address
    with echo(netns, port, "t", udp=udp, six=six):
        told = found(there, listeners=True, udp=udp)
        assert told.listeners == ((f"[::]:{port}" if six else f"0.0.0.0:{port}"),)
        assert told.exposed_ports == (port,)
        asked = {"connect_to": (address,), "udp": udp}
        (reached,) = found(here, port=port, **asked).connections
        (refused,) = found(here, port=port + 1, **asked).connections
    assert (reached.to, reached.error) == (address, "")
    assert refused.error == "Connection refused"


def test_a_virtual_address_is_known_by_the_kernels_rules(rig: Rig) -> None:
    host = rig.hosts[0]
    backend = Backend(task_id=TaskId("b"), slot=1, address=THERE)
    web = DesiredEndpoint(
        service_id=ServiceId("web"), service_name="web", network_id=APP,
        vip="10.128.255.254", backends=(backend,),
    )  # fmt: skip
    host.run(host.dataplane.sync([overlay(host)], [web]))
    for vip, address in (("10.128.255.254", THERE), ("fd00:128::fffe", THERE6)):
        facts = found(host, vip=vip)
        assert (facts.backends, facts.differences) == ((address,), ())
    sh(f"nsenter --net={host.directory}/t nft flush map inet pyswarm backends")
    facts = found(host, vip="10.128.255.254")
    assert facts.backends == ()
    assert [one.where for one in facts.differences] == ["task_rules"]


def test_devices_too_small_for_ipv6_are_as_planned(rig: Rig) -> None:
    host = rig.hosts[0]
    small = DesiredOverlay(
        network_id=NetworkId("netsmall"), name="small", vni=4098, subnet="10.129.0.0/16",
        node_number=1, local_blocks=("10.129.1.0/26",), mtu=1450,
    )  # fmt: skip
    for mtu in (1450, 1200):
        desired = replace(small, mtu=mtu)
        assert host.run(host.dataplane.sync([overlay(host), desired])) == ()
        assert host.run(host.dataplane.check()) == ()


def test_a_task_that_is_not_here_is_an_error(rig: Rig) -> None:
    with pytest.raises(NotFound):
        found(rig.hosts[0], task_id="gone")
