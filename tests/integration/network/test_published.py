"""Published ports on real kernels: who may connect, from where, and the client address that the
task sees.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import msgspec
import pytest

from agent.network.base import (
    Attachment,
    Backend,
    DesiredEndpoint,
    DesiredOverlay,
    Peer,
    Published,
    Underlay,
    host_bridge,
)
from agent.network.filter.senders import SPOOFED
from agent.network.kernel import KernelDataplane
from agent.network.names import Names
from pyswarm_core.ids import NetworkId, ServiceId, TaskId
from pyswarm_core.specs import PortConfig, Protocol, PublishMode
from tests.integration.network.echo import LOST_S, ask, ask_udp, echo, udp_client
from tests.integration.network.hosts import PREFIX, UNDERLAY_GATEWAY, Host, Rig, bare_afterwards, sh
from tests.integration.network.traffic import silence, unanswered

MESH, APP = NetworkId("netmesh"), NetworkId("netapp")
NAMES = Names("tst")
BRIDGE = host_bridge("10.127.0.0/24")
TASK_HOSTS = (2, 3)
"""These run tasks of the mesh; host 1 only accepts connections, and has no block."""
WEB = PortConfig(target_port=80, published_port=8080)
DNS = PortConfig(target_port=53, published_port=5353, protocol=Protocol.UDP)
CLIENT = "203.0.113.2"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("mesh"), 3)
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(rig: Rig) -> Iterator[str]:
    """A namespace beyond the underlay's gateway: answers from another host are lost."""
    name = f"{PREFIX}-c"
    under = f"{PREFIX}-u"
    sh(f"""ip netns add {name}
        ip -n {under} link add {PREFIX}c type veth peer name eth0 netns {name}
        ip -n {under} addr add 203.0.113.1/24 dev {PREFIX}c
        ip -n {under} link set {PREFIX}c up
        ip -n {name} addr add {CLIENT}/24 dev eth0
        ip -n {name} link set eth0 up
        ip -n {name} route add default via 203.0.113.1
        ip netns exec {under} sysctl -qw net.ipv4.ip_forward=1""")
    yield f"/run/netns/{name}"
    sh(f"ip netns del {name}")


def mesh(host: Host, network: NetworkId = MESH) -> DesiredOverlay:
    prefix, vni = ("10.200", 4200) if network == MESH else ("10.201", 4201)
    return DesiredOverlay(
        network_id=network, name="ingress" if network == MESH else "app", vni=vni,
        subnet=f"{prefix}.0.0/16", node_number=host.number, ingress=network == MESH,
        local_blocks=blocks(prefix, host.number, network),
        peers=tuple(
            Peer(node_number=n, address=f"192.168.77.{10 + n}", blocks=blocks(prefix, n, network))
            for n in (1, 2, 3) if n != host.number
        ),
    )  # fmt: skip


def blocks(prefix: str, number: int, network: NetworkId) -> tuple[str, ...]:
    return (f"{prefix}.{number}.0/26",) if network == APP or number in TASK_HOSTS else ()


def service(*numbers: int, port: PortConfig = WEB, last: int = 2) -> DesiredEndpoint:
    return DesiredEndpoint(
        service_id=ServiceId("web"), service_name="web", network_id=MESH, ports=(port,),
        backends=tuple(Backend(TaskId(f"web{n}"), n, f"10.200.{n}.{last}") for n in numbers),
    )  # fmt: skip


def sync(host: Host, *endpoints: DesiredEndpoint, published: tuple[Published, ...] = ()) -> None:
    networks = (BRIDGE, mesh(host), mesh(host, APP))
    host.run(host.dataplane.sync(networks, endpoints, published))


def attach(host: Host, task: str, *places: tuple[NetworkId, str]) -> str:
    attachments = [
        Attachment(network_id=network, address=address, ifname=f"eth{n}")
        for n, (network, address) in enumerate(places)
    ]
    return host.run(host.dataplane.attach(TaskId(task), attachments))


def footprint(host: Host) -> tuple[str, ...]:
    return (
        host.ip("-4 route show table all"),
        host.ip("rule"),
        host.nsenter("nft list tables"),
        host.ip("-br link show type bridge"),
        host.ip("-br link show type vxlan"),
    )


@pytest.fixture
def hosts(rig: Rig) -> Iterator[list[Host]]:
    """Hosts that carry the mesh; afterwards they must have as little state as before."""
    with bare_afterwards(rig, footprint):
        for host in rig.hosts:
            sync(host)
        yield rig.hosts


@pytest.fixture
def web(hosts: list[Host]) -> Iterator[list[str]]:
    """A service of one task on host 2 and one on host 3, on the networks app and ingress."""
    with ExitStack() as stack:
        paths = []
        for host in hosts[1:]:
            n = host.number
            path = attach(host, f"web{n}", (APP, f"10.201.{n}.2"), (MESH, f"10.200.{n}.2"))
            stack.enter_context(echo(path, 80, f"web{n}"))
            paths.append(path)
        for host in hosts:
            sync(host, service(2, 3))
        yield paths


def answers(netns: str, address: str, port: int = 8080) -> set[tuple[str, str]]:
    """The answers of enough requests to meet every backend."""
    return {ask(netns, address, port) for _ in range(24)}


def test_every_host_forwards_to_every_task_which_sees_the_clients_address(
    hosts: list[Host], web: list[str], client: str
) -> None:
    for host in hosts:
        assert answers(client, host.address) == {("web2", CLIENT), ("web3", CLIENT)}


def test_only_the_chosen_backends_get_connections(
    hosts: list[Host], web: list[str], client: str
) -> None:
    sync(hosts[0], service(3))
    assert answers(client, hosts[0].address) == {("web3", CLIENT)}


def test_a_published_port_without_backend_refuses_even_if_the_host_listens(
    hosts: list[Host], client: str
) -> None:
    with echo(hosts[0].netns, 8080, "host"):
        assert ask(client, hosts[0].address, 8080) == ("host", CLIENT)
        sync(hosts[0], service())
        with pytest.raises(ConnectionRefusedError):
            ask(client, hosts[0].address, 8080)
        with pytest.raises(ConnectionRefusedError):
            ask(hosts[0].netns, "127.0.0.1", 8080)
        sync(hosts[0])
        assert ask(client, hosts[0].address, 8080) == ("host", CLIENT)


def test_a_host_reaches_published_ports_by_localhost_and_by_its_own_addresses(
    hosts: list[Host], web: list[str]
) -> None:
    for host in hosts:
        assert {name for name, _ in answers(host.netns, "127.0.0.1")} == {"web2", "web3"}
        own = {("web2", host.address), ("web3", host.address)}
        assert answers(host.netns, host.address) == own


def test_a_host_reaches_its_own_tasks_by_another_hosts_port(
    hosts: list[Host], web: list[str]
) -> None:
    seen = answers(hosts[1].netns, hosts[0].address)
    assert seen == {("web2", hosts[0].address), ("web3", hosts[1].address)}


def test_tasks_reach_published_ports_by_their_hosts_address(
    hosts: list[Host], web: list[str]
) -> None:
    plain = attach(hosts[1], "plain", (APP, "10.201.2.9"))
    assert answers(plain, hosts[1].address) == {("web2", "10.201.2.9"), ("web3", "10.201.2.9")}
    assert {name for name, _ in answers(plain, hosts[0].address)} == {"web2", "web3"}
    # Tasks of the mesh itself: their own port, on the bridge that they are attached to.
    assert {name for name, _ in answers(web[0], hosts[1].address)} == {"web2", "web3"}


def test_udp_keeps_the_clients_address_and_its_backend(hosts: list[Host], client: str) -> None:
    with ExitStack() as stack:
        for host in hosts[1:]:
            path = attach(host, f"dns{host.number}", (MESH, f"10.200.{host.number}.3"))
            stack.enter_context(echo(path, 53, f"dns{host.number}", udp=True))
        for host in hosts:
            sync(host, service(2, 3, port=DNS, last=3))
        for host in hosts:
            with udp_client(client) as flow:
                first = ask_udp(flow, host.address, 5353)
                assert first[1] == CLIENT
                assert {ask_udp(flow, host.address, 5353) for _ in range(8)} == {first}


def test_a_udp_flow_to_a_backend_that_left_goes_to_another(hosts: list[Host], client: str) -> None:
    with ExitStack() as stack:
        for host in hosts[1:]:
            path = attach(host, f"dns{host.number}", (MESH, f"10.200.{host.number}.3"))
            stack.enter_context(echo(path, 53, f"dns{host.number}", udp=True))
        entry = hosts[0]
        sync(entry, service(2, port=DNS, last=3))
        flow = stack.enter_context(udp_client(client))
        assert ask_udp(flow, entry.address, 5353) == ("dns2", CLIENT)
        sync(entry, service(2, 3, port=DNS, last=3))
        assert ask_udp(flow, entry.address, 5353) == ("dns2", CLIENT), "nobody left"
        sync(entry, service(3, port=DNS, last=3))
        assert ask_udp(flow, entry.address, 5353) == ("dns3", CLIENT)


def test_an_attempt_that_a_lost_backend_never_answered_goes_to_another(
    hosts: list[Host], client: str
) -> None:
    lost, path = (
        attach(host, f"web{host.number}", (MESH, f"10.200.{host.number}.2")) for host in hosts[1:]
    )
    silence(lost)
    entry = hosts[0]
    sync(entry, service(2))
    with echo(path, 80, "web3"), unanswered(client, entry.address, 8080) as attempt:
        sync(entry, service(3))
        assert attempt.result() == "web3"


def host_port(
    published: int, task: str, network: NetworkId, address: str, **more: str
) -> Published:
    port = PortConfig(
        target_port=80, published_port=published, publish_mode=PublishMode.HOST,
        host_ip=more.get("host_ip", ""),
    )  # fmt: skip
    return Published(task_id=TaskId(task), network_id=network, address=address, ports=(port,))


def test_a_port_of_mode_host_is_forwarded_to_the_hosts_own_task_alone(
    hosts: list[Host], client: str
) -> None:
    host = hosts[0]
    on_app = attach(host, "a", (APP, "10.201.1.5"))
    on_bridge = attach(host, "b", (BRIDGE.network_id, "10.127.0.5"))
    with echo(on_app, 80, "a"), echo(on_bridge, 80, "b"):
        sync(host, published=(
            host_port(9001, "a", APP, "10.201.1.5"),
            host_port(9002, "b", BRIDGE.network_id, "10.127.0.5"),
        ))  # fmt: skip
        assert ask(client, host.address, 9001) == ("a", CLIENT)
        assert ask(client, host.address, 9002) == ("b", CLIENT)
        assert ask(host.netns, "127.0.0.1", 9001)[0] == "a"
        assert ask(host.netns, "127.0.0.1", 9002)[0] == "b"
        assert ask(on_bridge, host.address, 9002)[0] == "b", "from the same bridge"
        assert ask(on_app, host.address, 9002) == ("b", "10.201.1.5")
        with pytest.raises(ConnectionRefusedError):
            ask(client, hosts[1].address, 9001)
        sync(host)
        for port in (9001, 9002):
            with pytest.raises(ConnectionRefusedError):
                ask(client, host.address, port)


def test_a_port_of_mode_host_may_be_bound_to_an_address_or_a_device(
    hosts: list[Host], client: str
) -> None:
    host = hosts[0]
    with echo(attach(host, "a", (APP, "10.201.1.5")), 80, "a"):
        sync(host, published=(
            host_port(9001, "a", APP, "10.201.1.5", host_ip="127.0.0.1"),
            host_port(9002, "a", APP, "10.201.1.5", host_ip=host.address),
            host_port(9003, "a", APP, "10.201.1.5", host_ip="eth0"),
            host_port(9004, "a", APP, "10.201.1.5", host_ip="lo"),
        ))  # fmt: skip
        assert ask(host.netns, "127.0.0.1", 9001)[0] == "a"
        for port in (9002, 9003):
            assert ask(client, host.address, port) == ("a", CLIENT)
        for port in (9001, 9004):
            with pytest.raises(ConnectionRefusedError):
                ask(client, host.address, port)


def test_a_port_of_the_mesh_bound_to_one_address_or_device_answers_nowhere_else(
    hosts: list[Host], web: list[str], client: str
) -> None:
    host, other = hosts[0], hosts[1]
    places = {8081: "127.0.0.1", 8082: host.address, 8083: "eth0", 8084: "lo"}
    replace = msgspec.structs.replace
    ports = tuple(replace(WEB, published_port=n, host_ip=place) for n, place in places.items())
    for one in hosts:
        sync(one, replace(service(2, 3), ports=ports))
    assert ask(host.netns, "127.0.0.1", 8081)[0] in ("web2", "web3")
    for port in (8082, 8083):
        assert ask(client, host.address, port)[1] == CLIENT
    for place, port in ((host, 8081), (host, 8084), (other, 8081), (other, 8082)):
        with pytest.raises(ConnectionRefusedError):
            ask(client, place.address, port)


def test_what_others_delete_is_found_and_healed(
    hosts: list[Host], web: list[str], client: str
) -> None:
    backend, entry = hosts[1], hosts[0]
    assert backend.run(backend.dataplane.check()) == ()
    priority = NAMES.rule_priority + 1
    table = NAMES.table_towards(1)
    backend.ip(f"rule del priority {priority} table {table}")
    backend.ip(f"route flush table {table}")
    found = {drift.kind for drift in backend.run(backend.dataplane.check())}
    assert found == {"rule", "route"}
    sync(backend, service(2, 3))
    assert backend.run(backend.dataplane.check()) == ()
    sync(entry, service(2))
    assert entry.run(entry.dataplane.check()) == ()
    entry.nsenter("nft delete element inet pyswarm_tst mesh '{ tcp . 8080 }'")
    assert {drift.kind for drift in entry.run(entry.dataplane.check())} == {"rules"}
    sync(entry, service(2))
    assert ask(client, entry.address, 8080) == ("web2", CLIENT)
    entry.nsenter("nft flush ruleset")
    sync(entry, service(2, 3))
    assert answers(client, entry.address) == {("web2", CLIENT), ("web3", CLIENT)}


def test_changes_of_others_tables_do_not_disturb(
    hosts: list[Host], web: list[str], client: str
) -> None:
    entry = hosts[0]
    sync(entry, service(2))
    entry.nsenter("nft add table ip somebody")
    try:
        sync(entry, service(3))
        assert answers(client, entry.address) == {("web3", CLIENT)}
        assert entry.run(entry.dataplane.check()) == ()
        entry.nsenter("nft add chain ip somebody one")
        assert entry.run(entry.dataplane.check()) == ()
    finally:
        entry.nsenter("nft delete table ip somebody")


def test_a_restarted_agent_interrupts_nothing(
    hosts: list[Host], web: list[str], client: str
) -> None:
    for host in hosts:
        host.restart()
        assert ask(client, host.address, 8080)[1] == CLIENT
        sync(host, service(2, 3))
        assert host.run(host.dataplane.check()) == ()
        assert ask(client, host.address, 8080)[1] == CLIENT


def test_a_task_cannot_send_with_anothers_address_nor_to_the_hosts_localhost(
    hosts: list[Host],
) -> None:
    host = hosts[1]
    task = attach(host, "task", (MESH, "10.200.2.7"))
    with echo(host.netns, 7000, "host"), echo(host.netns, 7001, "host", udp=True):
        sh(f"nsenter --net={task} ip addr add 10.200.3.9/32 dev eth0")
        sh(f"nsenter --net={task} sysctl -qw net.ipv4.conf.all.route_localnet=1")
        assert ask(task, "10.200.2.1", 7000) == ("host", "10.200.2.7")
        with udp_client(task) as forged:
            forged.bind(("10.200.3.9", 0))
            with pytest.raises(TimeoutError):
                ask_udp(forged, "10.200.2.1", 7001, LOST_S)
        # The task's table of local addresses loses precedence to a route through its gateway.
        sh(f"""nsenter --net={task} ip rule add pref 1 from all lookup 9
            nsenter --net={task} ip rule del pref 0
            nsenter --net={task} ip route add 127.0.0.0/8 via 10.200.2.1 table 9
            nsenter --net={task} ip rule add pref 2 from all lookup local""")
        with udp_client(task) as lost:
            lost.bind(("10.200.2.7", 0))
            with pytest.raises(TimeoutError):
                ask_udp(lost, "127.0.0.1", 7001, LOST_S)
    assert host.call(partial(host.dataplane.filter.dropped, SPOOFED)) >= 1


def test_a_task_sends_no_frames_of_vxlan_to_other_hosts(hosts: list[Host], rig: Rig) -> None:
    task = attach(hosts[1], "task", (MESH, "10.200.2.7"))
    sh(f"nsenter --net={rig.netns} ip link set lo up")
    with (
        echo(rig.netns, 4789, "gate", udp=True),
        echo(rig.netns, 4790, "gate", udp=True),
        udp_client(task) as plain,
    ):
        assert ask_udp(plain, UNDERLAY_GATEWAY, 4790) == ("gate", hosts[1].address)
        with pytest.raises(TimeoutError):
            ask_udp(plain, UNDERLAY_GATEWAY, 4789, LOST_S)


def test_a_second_fleet_and_others_rules_are_not_disturbed(
    hosts: list[Host], web: list[str], client: str
) -> None:
    host = hosts[1]
    underlay = Underlay(address=host.address, port=4790)
    directory = host.directory.with_name("second")
    second = host.call(lambda: KernelDataplane("two", underlay, directory))
    own = DesiredOverlay(
        network_id=MESH, name="ingress", vni=4300, subnet="10.210.0.0/16", node_number=2,
        ingress=True, local_blocks=("10.210.2.0/26",),
        peers=(Peer(node_number=1, address=hosts[0].address, blocks=("10.210.1.0/26",)),),
    )  # fmt: skip
    port = msgspec.structs.replace(WEB, published_port=8081)
    endpoint = DesiredEndpoint(
        service_id=ServiceId("web"), service_name="web", network_id=MESH, ports=(port,),
        backends=(Backend(TaskId("other"), 1, "10.210.2.2"),),
    )  # fmt: skip
    before = (host.ip("rule"), sorted(host.nsenter("nft list tables").splitlines()))
    try:
        host.run(second.sync((own,), (endpoint,)))
        assert host.run(host.dataplane.check()) == ()
        assert host.run(second.check()) == ()
        place = Attachment(network_id=MESH, address="10.210.2.2")
        path = host.run(second.attach(TaskId("other"), [place]))
        with echo(path, 80, "other"):
            assert ask(client, host.address, 8081) == ("other", CLIENT)
            assert answers(client, hosts[0].address) == {("web2", CLIENT), ("web3", CLIENT)}
    finally:
        host.run(second.detach(TaskId("other")))
        host.run(second.sync(()))
        host.call(second.close)
    assert (host.ip("rule"), sorted(host.nsenter("nft list tables").splitlines())) == before
    assert host.run(host.dataplane.check()) == ()


DOCKER = """
table ip nat {
  chain PREROUTING {
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local jump DOCKER
  }
  chain DOCKER {
    tcp dport 8082 dnat to 172.17.0.2:80
  }
}
table ip filter {
  chain FORWARD {
    type filter hook forward priority filter; policy drop;
    jump DOCKER-USER
  }
  chain DOCKER-USER {
    iifname "tst-*" accept
    oifname "tst-*" accept
  }
}
"""


def test_published_ports_work_beside_docker_whose_forward_policy_is_drop(
    hosts: list[Host], web: list[str], client: str
) -> None:
    for host in hosts:
        host.nsenter(f"nft -f - <<'RULES'\n{DOCKER}\nRULES")
    try:
        for host in hosts:
            assert answers(client, host.address) == {("web2", CLIENT), ("web3", CLIENT)}
            listing = host.nsenter("nft -s list table ip nat")
            sync(host, service(2))
            assert host.nsenter("nft -s list table ip nat") == listing
    finally:
        for host in hosts:
            host.nsenter("nft delete table ip nat")
            host.nsenter("nft delete table ip filter")
