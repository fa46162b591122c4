"""The control plane is closed to tasks on real kernels, by IPv4 and IPv6: on its hosts' addresses,
on bridges' gateways and over the overlay. All else stays open.
"""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from agent.network.base import (
    NO_CONTROL_PLANE,
    ApiCaller,
    Attachment,
    Backend,
    ControlPlane,
    DesiredEndpoint,
    DesiredOverlay,
    Peer,
    Published,
    host_bridge,
)
from agent.network.filter.control import CLOSED, METADATA
from pyswarm_core.controlplane import ControlEndpoint, ControlHost
from pyswarm_core.ids import NetworkId, ServiceId, TaskId
from pyswarm_core.objects import TaskAddress
from pyswarm_core.specs import PortConfig, PublishMode
from tests.fixtures.netns import inside
from tests.integration.network.echo import LOST_S, ask, echo
from tests.integration.network.hosts import PREFIX, Host, Rig, bare_afterwards, sh

APP, MESH = NetworkId("netapp"), NetworkId("netmesh")
BRIDGE = host_bridge("10.127.0.0/24")
SUBNETS = {APP: ("10.128", "fd00:128::", 4097), MESH: ("10.200", "fd00:200::", 4200)}
UNDERLAY = "2001:db8:77::"
API, ETCD, METRICS, AGENT = 2377, 2379, 9323, 9324
OPEN = 8081
"""A port of the hosts that belongs to nobody's control plane."""


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("control"), 2)
    sh(f"ip -n {PREFIX}-u addr add {UNDERLAY}1/64 dev br0 nodad")
    for host in made.hosts:
        host.ip(f"addr add {outer(host)}/64 dev eth0 nodad")
        host.ip(f"-6 route add default via {UNDERLAY}1")
    yield made
    made.close()


def outer(host: Host) -> str:
    return f"{UNDERLAY}{10 + host.number}"


def overlay(host: Host, network: NetworkId, *, block_metadata: bool = False) -> DesiredOverlay:
    prefix, six, vni = SUBNETS[network]
    other = 3 - host.number
    return DesiredOverlay(
        network_id=network, name=network[3:], vni=vni, subnet=f"{prefix}.0.0/16",
        subnet6=f"{six}/64", node_number=host.number, ingress=network == MESH,
        local_blocks=(f"{prefix}.{host.number}.0/26",), block_metadata=block_metadata,
        peers=(
            Peer(
                node_number=other, address=f"192.168.77.{10 + other}",
                blocks=(f"{prefix}.{other}.0/26",),
                addresses6=(f"{UNDERLAY}{10 + other}",) if network == MESH else (),
            ),
        ),
    )  # fmt: skip


def control(rig: Rig, *callers: ApiCaller) -> ControlPlane:
    """Controller and etcd on host 1, on all its addresses but for the metrics; agents' metrics."""
    one, two = rig.hosts
    everywhere = (
        ControlEndpoint(port=API, api=True, anywhere=True),
        ControlEndpoint(port=ETCD, anywhere=True),
    )
    return ControlPlane(
        hosts=(
            ControlHost(addresses=(one.address, outer(one)), endpoints=everywhere),
            ControlHost(
                addresses=(one.address, outer(one)), endpoints=(ControlEndpoint(port=METRICS),)
            ),
            ControlHost(
                addresses=(one.address, outer(one), two.address, outer(two)),
                endpoints=(ControlEndpoint(port=AGENT),),
            ),
        ),
        callers=callers,
    )


def sync(
    host: Host,
    closed: ControlPlane,
    *endpoints: DesiredEndpoint,
    published: tuple[Published, ...] = (),
    block_metadata: bool = False,
) -> None:
    networks = (BRIDGE, overlay(host, APP, block_metadata=block_metadata), overlay(host, MESH))
    host.run(host.dataplane.sync(networks, endpoints, published, control=closed))


def attach(host: Host, task: str, *places: tuple[NetworkId, str]) -> str:
    attachments = [
        Attachment(network_id=network, address=address, ifname=f"eth{n}")
        for n, (network, address) in enumerate(places)
    ]
    return host.run(host.dataplane.attach(TaskId(task), attachments))


def footprint(host: Host) -> tuple[str, ...]:
    return host.nsenter("nft list tables"), host.ip("-br link show type bridge")


@pytest.fixture
def hosts(rig: Rig) -> Iterator[list[Host]]:
    """Hosts that close the control plane, and servers on its ports that answer everyone else."""
    with bare_afterwards(rig, footprint), ExitStack() as stack:
        for host in rig.hosts:
            sync(host, control(rig))
            for port in (API, ETCD, METRICS, AGENT, OPEN):
                for six in (False, True):
                    stack.enter_context(echo(host.netns, port, f"host{host.number}", six=six))
        yield rig.hosts


def refused(task: str, address: str, port: int) -> bool:
    """Whether a connection is refused, and at once: a timeout is an error of the test."""
    try:
        ask(task, address, port)
    except ConnectionRefusedError:
        return True
    return False


def dropped(host: Host, counter: str) -> int:
    return host.call(partial(host.dataplane.parts.filter.dropped, counter))


def by_app(host: Host, last: int = 9) -> str:
    return attach(host, f"app{host.number}{last}", (APP, f"10.128.{host.number}.{last}"))


def outside(host: Host) -> tuple[str, str]:
    return host.address, outer(host)


def gateways(host: Host) -> tuple[str, str]:
    n = host.number
    return f"10.128.{n}.1", f"fd00:128::{n:x}01"


def test_no_task_reaches_the_control_plane_on_any_address_of_any_host(
    rig: Rig, hosts: list[Host]
) -> None:
    one, two = hosts
    for task in (by_app(one), by_app(two)):
        for port in (API, ETCD, METRICS, AGENT):
            for address in outside(one):
                assert refused(task, address, port), (task, address, port)
        for port in (API, ETCD):
            for address in gateways(one):
                assert refused(task, address, port), (task, address, port)
        for address in outside(two):
            assert refused(task, address, AGENT)
    on_bridge = attach(one, "plain", (BRIDGE.network_id, "10.127.0.5"))
    for address in ("10.127.0.1", one.address, "10.200.1.1"):
        assert refused(on_bridge, address, API)
    assert dropped(one, CLOSED) > 0
    assert dropped(two, CLOSED) > 0


def test_only_the_control_planes_own_ports_and_addresses_are_closed(hosts: list[Host]) -> None:
    one, two = hosts
    for task in (by_app(one), by_app(two)):
        for host in hosts:
            for address in (*outside(host), *gateways(host)):
                assert ask(task, address, OPEN)[0] == f"host{host.number}"
        # No controller listens on host 2, and its metrics are not on the bridge.
        for port in (API, ETCD, METRICS):
            for address in outside(two):
                assert ask(task, address, port)[0] == "host2"
        assert ask(task, gateways(two)[0], AGENT)[0] == "host2"


def test_hosts_reach_the_control_plane_as_before(hosts: list[Host]) -> None:
    for host in hosts:
        for port in (API, ETCD, METRICS, AGENT):
            for address in outside(hosts[0]):
                assert ask(host.netns, address, port)[0] == "host1"


def service(port: PortConfig, *numbers: int) -> DesiredEndpoint:
    return DesiredEndpoint(
        service_id=ServiceId("web"), service_name="web", network_id=MESH, ports=(port,),
        backends=tuple(Backend(TaskId(f"web{n}"), n, f"10.200.{n}.2") for n in numbers),
    )  # fmt: skip


def test_a_published_port_of_the_same_number_stays_open(rig: Rig, hosts: list[Host]) -> None:
    one, two = hosts
    web = attach(two, "web2", (MESH, "10.200.2.2"))
    port = PortConfig(target_port=80, published_port=AGENT)
    own = PortConfig(target_port=80, published_port=API, publish_mode=PublishMode.HOST)
    led = Published(task_id=TaskId("web2"), network_id=MESH, address="10.200.2.2", ports=(own,))
    with echo(web, 80, "web"), echo(web, 80, "web", six=True):
        sync(one, control(rig), service(port, 2))
        sync(two, control(rig), service(port, 2), published=(led,))
        for host in hosts:
            task = by_app(host)
            for address in outside(host):
                assert ask(task, address, AGENT)[0] == "web"
        for address in (*outside(two), *gateways(two)):
            assert ask(by_app(two), address, API)[0] == "web"
        for address in outside(two):
            assert ask(by_app(one), address, API)[0] == "web"
        # The controller's own addresses are closed, whatever other hosts publish.
        assert refused(by_app(two), one.address, API)


def test_a_service_that_may_call_the_api_reaches_it_and_no_other_port(
    rig: Rig, hosts: list[Host]
) -> None:
    one, two = hosts
    for host in hosts:
        address = TaskAddress(network_id=APP, address=f"10.128.{host.number}.7")
        caller = ApiCaller(task_id=TaskId("caller"), addresses=(address,))
        sync(host, control(rig, caller))
    for host in hosts:
        caller_, other = by_app(host, 7), by_app(host, 8)
        for at in outside(one):
            assert ask(caller_, at, API)[0] == "host1"
            assert refused(other, at, API)
            for port in (ETCD, METRICS, AGENT):
                assert refused(caller_, at, port)
    assert ask(by_app(one, 7), gateways(one)[0], API)[0] == "host1"
    sync(two, control(rig))
    assert refused(by_app(two, 7), one.address, API)


def test_what_another_program_translates_to_the_control_plane_is_closed(
    rig: Rig, hosts: list[Host]
) -> None:
    one, _ = hosts
    rule = f"ip daddr 198.51.100.1 tcp dport 80 dnat to {one.address}:{API}"
    chain = "chain pre { type nat hook prerouting priority -110; " + rule + "; }"
    try:
        for host in hosts:
            sh(f"echo 'table ip other {{ {chain}; }}' | nsenter --net={host.netns} nft -f -")
        for host in hosts:
            task = by_app(host)
            # The kernel sends the reset from the translated address, so the client ignores it.
            with pytest.raises(TimeoutError):
                ask(task, "198.51.100.1", 80, timeout_s=LOST_S)
            sync(host, NO_CONTROL_PLANE)
            assert ask(task, "198.51.100.1", 80)[0] == "host1"
    finally:
        for host in hosts:
            host.nsenter("nft delete table ip other")


def test_the_rules_outlive_the_agent_and_return_when_others_remove_them(
    rig: Rig, hosts: list[Host]
) -> None:
    task = by_app(hosts[1])
    hosts[1].restart()
    assert refused(task, hosts[0].address, API)
    hosts[1].nsenter("nft flush ruleset")
    sync(hosts[1], control(rig))
    assert refused(task, hosts[0].address, API)


def test_optional_rules_that_nft_refuses_open_nothing(rig: Rig, hosts: list[Host]) -> None:
    broken = PortConfig(target_port=80, published_port=9000, host_ip="x" * 40)
    sync(hosts[1], control(rig), service(broken, 2))
    assert hosts[1].dataplane.parts.filter.refused
    assert refused(by_app(hosts[1]), hosts[0].address, API)


def test_an_open_connection_goes_on_when_its_port_is_closed(rig: Rig, hosts: list[Host]) -> None:
    one, two = hosts
    sync(two, NO_CONTROL_PLANE)
    with _server(one) as server:
        port = server.getsockname()[1]
        near = inside(by_app(two), partial(socket.create_connection, (one.address, port), 3))
        far, _ = server.accept()
        closed = ControlHost(addresses=(one.address,), endpoints=(ControlEndpoint(port=port),))
        sync(two, ControlPlane(hosts=(closed,)))
        with near, far:
            near.sendall(b"more")
            assert far.recv(10) == b"more"
        assert refused(by_app(two), one.address, port)


def _server(host: Host) -> socket.socket:
    return inside(host.netns, lambda: socket.create_server((host.address, 0)))


def test_metadata_addresses_are_closed_per_network(rig: Rig, hosts: list[Host]) -> None:
    addresses = ("169.254.169.254", "fd00:ec2::254")
    host = hosts[1]
    on_app = by_app(host)
    on_mesh = attach(host, "mesh", (MESH, "10.200.2.9"))
    sh(f"""ip -n {PREFIX}-u addr add {addresses[0]}/32 dev br0
        ip -n {PREFIX}-u addr add {addresses[1]}/128 dev br0 nodad""")
    try:
        with echo(rig.netns, 80, "metadata"), echo(rig.netns, 80, "metadata", six=True):
            for address in addresses:
                assert ask(on_app, address, 80)[0] == "metadata"
            sync(host, control(rig), block_metadata=True)
            for address in addresses:
                assert refused(on_app, address, 80)
                assert ask(on_mesh, address, 80)[0] == "metadata"
            assert dropped(host, METADATA) >= len(addresses)
    finally:
        sh(f"""ip -n {PREFIX}-u addr del {addresses[0]}/32 dev br0
            ip -n {PREFIX}-u addr del {addresses[1]}/128 dev br0""")
