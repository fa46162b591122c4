"""Dual-stack networks on real kernels: everything that IPv4 has, at the corresponding IPv6
addresses.
"""

import socket
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
)
from agent.network.filter.senders import SPOOFED
from agent.network.names import Names, next_hop6
from pyswarm_core.ids import NetworkId, ServiceId, TaskId
from pyswarm_core.specs import PortConfig, Protocol, PublishMode
from tests.integration.network.echo import LOST_S, ask, ask_udp, echo, udp_client
from tests.integration.network.hosts import PREFIX, Host, Rig, bare_afterwards, ping, sh
from tests.integration.network.traffic import PORT, Listeners, silence, unanswered

MESH, APP, OTHER, PLAIN = map(NetworkId, ("netmesh", "netapp", "netother", "netplain"))
SUBNETS = {
    MESH: ("10.200", "fd00:200::", 4200),
    APP: ("10.128", "fd00:128::", 4097),
    OTHER: ("10.129", "fd00:129::", 4098),
    PLAIN: ("10.130", "", 4099),
}
NAMES = Names("tst")
WEB = PortConfig(target_port=80, published_port=8080)
DNS = PortConfig(target_port=53, published_port=5353, protocol=Protocol.UDP)
CLIENT, UNDERLAY = "2001:db8:c::2", "2001:db8:77::"
VIP = "10.128.255.254"
VIP6 = "fd00:128::fffe"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Hosts that clients reach by IPv6; their tunnels use IPv4."""
    made = Rig(tmp_path_factory.mktemp("six"), 3)
    sh(f"ip -n {PREFIX}-u addr add {UNDERLAY}1/64 dev br0 nodad")
    for host in made.hosts:
        host.ip(f"addr add {outer(host)}/64 dev eth0 nodad")
        host.ip(f"-6 route add default via {UNDERLAY}1")
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(rig: Rig) -> Iterator[str]:
    """A namespace beyond the underlay's gateway: answers from another host are lost."""
    name, under = f"{PREFIX}-c", f"{PREFIX}-u"
    sh(f"""ip netns add {name}
        ip -n {under} link add {PREFIX}c type veth peer name eth0 netns {name}
        ip -n {under} addr add 2001:db8:c::1/64 dev {PREFIX}c nodad
        ip -n {under} link set {PREFIX}c up
        ip -n {name} addr add {CLIENT}/64 dev eth0 nodad
        ip -n {name} link set eth0 up
        ip -n {name} -6 route add default via 2001:db8:c::1
        ip netns exec {under} sysctl -qw net.ipv6.conf.all.forwarding=1""")
    yield f"/run/netns/{name}"
    sh(f"ip netns del {name}")


def outer(host: Host) -> str:
    return f"{UNDERLAY}{10 + host.number}"


def overlay(host: Host, network: NetworkId) -> DesiredOverlay:
    prefix, six, vni = SUBNETS[network]
    return DesiredOverlay(
        network_id=network, name=network[3:], vni=vni, subnet=f"{prefix}.0.0/16",
        subnet6=f"{six}/64" if six else "", node_number=host.number, ingress=network == MESH,
        local_blocks=blocks(prefix, host.number, network),
        peers=tuple(
            Peer(
                node_number=n, address=f"192.168.77.{10 + n}", blocks=blocks(prefix, n, network),
                addresses6=(f"{UNDERLAY}{10 + n}",) if network == MESH else (),
            )
            for n in (1, 2, 3) if n != host.number
        ),
    )  # fmt: skip


def blocks(prefix: str, number: int, network: NetworkId) -> tuple[str, ...]:
    """Host 1 runs no task of the mesh: it only accepts connections."""
    return () if (network, number) == (MESH, 1) else (f"{prefix}.{number}.0/26",)


def at(network: NetworkId, number: int, last: int = 2) -> str:
    return f"{SUBNETS[network][0]}.{number}.{last}"


def at6(network: NetworkId, number: int, last: int = 2) -> str:
    return f"{SUBNETS[network][1]}{number:x}{last:02x}"


def sync(
    host: Host,
    *endpoints: DesiredEndpoint,
    published: tuple[Published, ...] = (),
    networks: tuple[NetworkId, ...] = tuple(SUBNETS),
) -> None:
    desired = [overlay(host, network) for network in networks]
    host.run(host.dataplane.sync(desired, endpoints, published))


def attach(host: Host, task: str, *networks: NetworkId, last: int = 2) -> str:
    attachments = [
        Attachment(network_id=net, address=at(net, host.number, last), ifname=f"eth{n}")
        for n, net in enumerate(networks)
    ]
    return host.run(host.dataplane.attach(TaskId(task), attachments))


def footprint(host: Host) -> tuple[str, ...]:
    return (
        host.ip("-6 route show table all proto 97"),
        host.ip("-6 rule"),
        host.ip("-6 neigh show nud permanent"),
        host.nsenter("nft list tables"),
        host.ip("-br link show type bridge"),
        host.ip("-br link show type vxlan"),
    )


@pytest.fixture
def hosts(rig: Rig) -> Iterator[list[Host]]:
    with bare_afterwards(rig, footprint):
        for host in rig.hosts:
            sync(host)
        yield rig.hosts


def test_tasks_reach_each_other_on_every_host_and_keep_their_addresses(hosts: list[Host]) -> None:
    paths = [attach(host, f"task{host.number}", APP) for host in hosts]
    neighbour = attach(hosts[0], "task1b", APP, last=3)
    for path in (*paths, neighbour):
        for number in (1, 2, 3):
            assert ping(path, at6(APP, number))
    with echo(paths[1], 80, "far", six=True):
        assert ask(neighbour, at6(APP, 2), 80) == ("far", at6(APP, 1, 3))
        assert ask(hosts[0].netns, at6(APP, 2), 80) == ("far", at6(APP, 1, 1)), "from the host"
    for host in hosts:
        assert host.run(host.dataplane.check()) == ()


def test_a_full_packet_passes_and_a_larger_one_is_refused(hosts: list[Host]) -> None:
    near = attach(hosts[0], "near", APP)
    attach(hosts[1], "far", APP)
    assert ping(near, at6(APP, 2), payload=1450 - 48)
    assert not ping(near, at6(APP, 2), payload=1450 - 46, timeout_s=0.3)


def test_networks_are_kept_apart_and_a_task_of_two_reaches_both(hosts: list[Host]) -> None:
    app, both = attach(hosts[0], "app", APP), attach(hosts[0], "both", APP, OTHER, last=3)
    attach(hosts[0], "other", OTHER)
    attach(hosts[1], "faraway", OTHER)
    attach(hosts[1], "a", APP)
    for number in (1, 2):
        assert not ping(app, at6(OTHER, number), timeout_s=0.3)
        assert ping(both, at6(OTHER, number))
    assert ping(both, at6(APP, 2))


def test_a_network_without_ipv6_stays_without_it(hosts: list[Host]) -> None:
    plain, both = attach(hosts[0], "plain", PLAIN), attach(hosts[0], "both", PLAIN, APP, last=3)
    attach(hosts[1], "far", APP)
    links = [line.split()[1] for line in sh(f"nsenter --net={plain} ip -6 -o addr").splitlines()]
    assert set(links) <= {"lo"}
    assert "inet6" not in sh(f"nsenter --net={both} ip -6 addr show dev eth0")
    for name in (NAMES.bridge(PLAIN), NAMES.vxlan(PLAIN)):
        assert "inet6" not in hosts[0].ip(f"addr show dev {name}")
    assert ping(both, at6(APP, 2))
    assert "via fd00:128::101 dev eth1" in sh(f"nsenter --net={both} ip -6 route show default")


def test_what_routers_say_is_not_believed_and_addresses_stand_at_once(hosts: list[Host]) -> None:
    task = attach(hosts[0], "task", APP)
    assert "tentative" not in sh(f"nsenter --net={task} ip -6 addr show dev eth0")
    assert "tentative" not in hosts[0].ip(f"-6 addr show dev {NAMES.bridge(APP)}")
    for place, name in ((task, "eth0"), (hosts[0].netns, NAMES.bridge(APP))):
        setting = f"net.ipv6.conf.{name}.accept_ra"
        assert sh(f"nsenter --net={place} sysctl -n {setting}").strip() == "0"


def test_egress_carries_the_hosts_address(hosts: list[Host], rig: Rig) -> None:
    task = attach(hosts[0], "task", APP)
    with echo(rig.netns, 7000, "world", six=True):
        assert ask(task, f"{UNDERLAY}1", 7000) == ("world", outer(hosts[0]))


def test_nobody_outside_opens_a_connection_to_a_task(hosts: list[Host], rig: Rig) -> None:
    attach(hosts[0], "task", APP)
    block = "fd00:128::100/122"
    sh(f"nsenter --net={rig.netns} ip -6 route add {block} via {outer(hosts[0])}")
    try:
        assert not ping(rig.netns, at6(APP, 1), timeout_s=0.3)
    finally:
        sh(f"nsenter --net={rig.netns} ip -6 route del {block}")


def test_addresses_outside_every_block_are_unreachable_not_leaked(hosts: list[Host]) -> None:
    hosts[0].ip(f"-6 route get {at6(APP, 2)}")
    with pytest.raises(AssertionError, match="No route to host"):
        hosts[0].ip(f"-6 route get {at6(APP, 99)}")


def test_a_task_cannot_send_with_anothers_address(hosts: list[Host]) -> None:
    task = attach(hosts[0], "task", APP)
    before = hosts[0].call(partial(hosts[0].dataplane.filter.dropped, SPOOFED))
    with echo(hosts[0].netns, 7001, "host", udp=True, six=True):
        with udp_client(task, six=True) as honest:
            assert ask_udp(honest, at6(APP, 1, 1), 7001) == ("host", at6(APP, 1))
        sh(f"nsenter --net={task} ip addr add {at6(APP, 3)}/128 dev eth0 nodad")
        with udp_client(task, six=True) as forged:
            forged.bind((at6(APP, 3), 0))
            with pytest.raises(TimeoutError):
                ask_udp(forged, at6(APP, 1, 1), 7001, LOST_S)
    assert hosts[0].call(partial(hosts[0].dataplane.filter.dropped, SPOOFED)) > before


def service(*numbers: int) -> DesiredEndpoint:
    return DesiredEndpoint(
        service_id=ServiceId("app"), service_name="app", network_id=APP, vip=VIP,
        backends=tuple(Backend(TaskId(f"task{n}"), n, at(APP, n)) for n in numbers),
    )  # fmt: skip


def test_the_virtual_address_reaches_every_backend_the_caller_included(hosts: list[Host]) -> None:
    paths = [attach(host, f"task{host.number}", APP) for host in hosts]
    for host in hosts:
        sync(host, service(1, 2))
    with Listeners(paths, socket.AF_INET6) as listeners:
        for path in paths:
            seen = {listeners.call(path, VIP6) for _ in range(30)}
            assert seen == {at6(APP, 1), at6(APP, 2)}
        sync(hosts[0], service(3))
        assert {listeners.call(paths[0], VIP6) for _ in range(8)} == {at6(APP, 3)}
        sync(hosts[0], service())
        assert listeners.call(paths[0], VIP6) == ""


def test_a_udp_flow_to_a_virtual_address_moves_when_its_backend_leaves(hosts: list[Host]) -> None:
    paths = [attach(host, f"task{host.number}", APP) for host in hosts]
    sync(hosts[0], service(2))
    with ExitStack() as stack:
        for number in (2, 3):
            stack.enter_context(echo(paths[number - 1], 53, f"{number}", udp=True, six=True))
        flow = stack.enter_context(udp_client(paths[0], six=True))
        assert ask_udp(flow, VIP6, 53) == ("2", at6(APP, 1))
        sync(hosts[0], service(3))
        assert ask_udp(flow, VIP6, 53) == ("3", at6(APP, 1))


@pytest.mark.parametrize(("vip", "family"), [(VIP, socket.AF_INET), (VIP6, socket.AF_INET6)])
def test_a_virtual_address_tries_another_backend_a_second_after_a_lost_one(
    hosts: list[Host], vip: str, family: int
) -> None:
    caller, lost, path = (attach(host, f"task{host.number}", APP) for host in hosts)
    sync(hosts[0], service(2))
    with Listeners([lost], family) as listeners:
        assert listeners.call(caller, vip)  # neighbours are resolved now
    silence(lost)
    with (
        echo(path, PORT, "task3", six=family == socket.AF_INET6),
        unanswered(caller, vip, PORT, family) as attempt,
    ):
        sync(hosts[0], service(3))
        assert attempt.result() == "task3"


def web(*numbers: int, port: PortConfig = WEB) -> DesiredEndpoint:
    return DesiredEndpoint(
        service_id=ServiceId("web"), service_name="web", network_id=MESH, ports=(port,),
        backends=tuple(Backend(TaskId(f"web{n}"), n, at(MESH, n)) for n in numbers),
    )  # fmt: skip


@pytest.fixture
def published(hosts: list[Host]) -> Iterator[list[str]]:
    """A service of one task on host 2 and one on host 3, on the networks app and ingress."""
    with ExitStack() as stack:
        paths = []
        for host in hosts[1:]:
            paths.append(attach(host, f"web{host.number}", APP, MESH))
            stack.enter_context(echo(paths[-1], 80, f"web{host.number}", six=True))
        for host in hosts:
            sync(host, web(2, 3))
        yield paths


def answers(netns: str, address: str, port: int = 8080) -> set[tuple[str, str]]:
    return {ask(netns, address, port) for _ in range(24)}


def test_every_host_forwards_to_every_task_which_sees_the_clients_address(
    hosts: list[Host], published: list[str], client: str
) -> None:
    for host in hosts:
        assert answers(client, outer(host)) == {("web2", CLIENT), ("web3", CLIENT)}
        assert host.run(host.dataplane.check()) == ()


def test_hosts_and_tasks_reach_published_ports_by_a_hosts_address(
    hosts: list[Host], published: list[str]
) -> None:
    for host in hosts:
        own = outer(host)
        assert answers(host.netns, own) == {("web2", own), ("web3", own)}
    plain = attach(hosts[1], "plain", APP, last=9)
    assert answers(plain, outer(hosts[1])) == {(f"web{n}", at6(APP, 2, 9)) for n in (2, 3)}
    assert {name for name, _ in answers(published[0], outer(hosts[1]))} == {"web2", "web3"}


def test_a_host_and_its_tasks_reach_its_own_tasks_by_another_hosts_port(
    hosts: list[Host], published: list[str]
) -> None:
    for entry in (hosts[0], hosts[2]):
        seen = dict(answers(hosts[1].netns, outer(entry)))
        assert seen.keys() == {"web2", "web3"}
        assert f" {seen['web2']}/" in entry.ip("-6 -o addr"), (
            "the host that was asked stands for it"
        )
        plain = attach(hosts[1], "plain", APP, last=9)
        assert {name for name, _ in answers(plain, outer(entry))} == {"web2", "web3"}
    assert hosts[1].run(hosts[1].dataplane.check()) == ()


def test_a_host_tells_its_own_addresses_and_no_others(hosts: list[Host]) -> None:
    host = hosts[0]
    try:
        host.ip("addr add 2001:db8:d::1/64 dev lo nodad")
        assert set(host.run(host.dataplane.overlay.addresses6())) == {outer(host), "2001:db8:d::1"}
    finally:
        host.ip("addr del 2001:db8:d::1/64 dev lo")


def test_the_loopback_of_ipv6_is_refused_at_once(hosts: list[Host], published: list[str]) -> None:
    for host in hosts:
        with pytest.raises(ConnectionRefusedError):
            ask(host.netns, "::1", 8080)


def test_an_attempt_that_a_lost_backend_never_answered_goes_to_another(
    hosts: list[Host], client: str
) -> None:
    entry = hosts[0]
    sync(entry, web(2))
    lost, path = (attach(host, f"web{host.number}", MESH) for host in hosts[1:])
    with echo(lost, 80, "web2", six=True):
        assert ask(client, outer(entry), 8080)[0] == "web2"  # neighbours are resolved now
    silence(lost)
    with (
        echo(path, 80, "web3", six=True),
        unanswered(client, outer(entry), 8080, socket.AF_INET6) as attempt,
    ):
        sync(entry, web(3))
        assert attempt.result() == "web3"


def test_a_published_port_without_backend_refuses(hosts: list[Host], client: str) -> None:
    with echo(hosts[0].netns, 8080, "host", six=True):
        sync(hosts[0], web())
        with pytest.raises(ConnectionRefusedError):
            ask(client, outer(hosts[0]), 8080)
        sync(hosts[0])
        assert ask(client, outer(hosts[0]), 8080) == ("host", CLIENT)


def test_udp_keeps_its_backend_until_that_leaves(hosts: list[Host], client: str) -> None:
    with ExitStack() as stack:
        for host in hosts[1:]:
            path = attach(host, f"web{host.number}", MESH)
            stack.enter_context(echo(path, 53, f"dns{host.number}", udp=True, six=True))
        for host in hosts:
            sync(host, web(2, port=DNS))
        flow = stack.enter_context(udp_client(client, six=True))
        assert ask_udp(flow, outer(hosts[0]), 5353) == ("dns2", CLIENT)
        sync(hosts[0], web(2, 3, port=DNS))
        assert ask_udp(flow, outer(hosts[0]), 5353) == ("dns2", CLIENT), "nobody left"
        sync(hosts[0], web(3, port=DNS))
        assert ask_udp(flow, outer(hosts[0]), 5353) == ("dns3", CLIENT)


def test_a_port_of_mode_host_answers_by_both_versions_or_at_one_address(
    hosts: list[Host], client: str
) -> None:
    host = hosts[0]
    port = PortConfig(target_port=80, published_port=9001, publish_mode=PublishMode.HOST)
    ports = tuple(
        msgspec.structs.replace(port, published_port=9001 + n, host_ip=host_ip)
        for n, host_ip in enumerate(("", outer(host), "eth0", host.address, "lo"))
    )
    task = Published(task_id=TaskId("a"), network_id=APP, address=at(APP, 1), ports=ports)
    path = attach(host, "a", APP)
    with echo(path, 80, "a"), echo(path, 80, "a", six=True):
        sync(host, published=(task,))
        assert ask(host.netns, host.address, 9001)[0] == "a"
        for number in (9001, 9002, 9003):
            assert ask(client, outer(host), number) == ("a", CLIENT)
        for number in (9004, 9005):
            with pytest.raises(ConnectionRefusedError):
                ask(client, outer(host), number)
        assert ask(path, outer(host), 9001)[0] == "a", "from the same bridge"
        sync(host)
        with pytest.raises(ConnectionRefusedError):
            ask(client, outer(host), 9001)


DISTURBANCES = {
    "route": ("route", "-6 route del fd00:128::200/122"),
    "redirected route": ("route", f"-6 route replace fd00:128::200/122 via {UNDERLAY}1"),
    "last resort": ("route", "-6 route del unreachable fd00:128::/64 proto 97"),
    "neighbour": ("neighbour", f"neigh del {next_hop6(2)} dev {NAMES.vxlan(APP)}"),
    "gateway": ("address", f"addr del fd00:128::101/122 dev {NAMES.bridge(APP)}"),
    "every address": ("address", f"addr flush dev {NAMES.bridge(APP)}"),
    "down": ("link", f"link set {NAMES.vxlan(APP)} down"),
    "bridge down": ("link", f"link set {NAMES.bridge(APP)} down"),
    "tunnel": ("link", f"link del {NAMES.vxlan(APP)}"),
    "bridge": ("link", f"link del {NAMES.bridge(APP)}"),
}


@pytest.mark.parametrize("disturbance", list(DISTURBANCES))
def test_what_is_disturbed_is_noticed_and_healed(hosts: list[Host], disturbance: str) -> None:
    near = attach(hosts[0], "near", APP)
    far = attach(hosts[1], "far", APP)
    assert hosts[0].run(hosts[0].dataplane.check()) == ()
    kind, command = DISTURBANCES[disturbance]
    hosts[0].ip(command)
    assert kind in {drift.kind for drift in hosts[0].run(hosts[0].dataplane.check())}
    sync(hosts[0])
    assert hosts[0].run(hosts[0].dataplane.check()) == ()
    assert ping(near, at6(APP, 2))
    assert ping(far, at6(APP, 1))


@pytest.mark.parametrize("setting", ["all/forwarding=0", "{bridge}/disable_ipv6=1"])
def test_a_changed_setting_is_noticed_and_healed(hosts: list[Host], setting: str) -> None:
    near = attach(hosts[0], "near", APP)
    attach(hosts[1], "far", APP)
    path = setting.format(bridge=NAMES.bridge(APP)).replace("/", ".")
    hosts[0].nsenter(f"sysctl -qw net.ipv6.conf.{path}")
    # A host's own address: packets to tasks are not routed, and do not use all of it.
    there = at6(APP, 2, last=1)
    assert not ping(near, there, timeout_s=0.3)
    assert "setting" in {drift.kind for drift in hosts[0].run(hosts[0].dataplane.check())}
    sync(hosts[0])
    assert hosts[0].run(hosts[0].dataplane.check()) == ()
    assert ping(near, there)
    assert ping(near, at6(APP, 2))


def test_a_lost_return_path_is_noticed_and_healed(
    hosts: list[Host], published: list[str], client: str
) -> None:
    backend = hosts[1]
    table = NAMES.table_towards(1)
    backend.ip(f"-6 rule del priority {NAMES.rule_priority + 1} table {table}")
    backend.ip(f"-6 route flush table {table}")
    found = {drift.kind for drift in backend.run(backend.dataplane.check())}
    assert found == {"rule", "route"}
    sync(backend, web(2, 3))
    assert backend.run(backend.dataplane.check()) == ()
    assert answers(client, outer(hosts[0])) == {("web2", CLIENT), ("web3", CLIENT)}


def test_a_restarted_agent_adopts_its_tasks_and_clears_what_another_left(
    hosts: list[Host],
) -> None:
    near = attach(hosts[0], "near", APP)
    attach(hosts[1], "far", APP)
    links = hosts[0].ip("-o link | cut -d: -f-2")
    hosts[0].restart()
    sync(hosts[0])
    assert attach(hosts[0], "near", APP) == near
    assert hosts[0].ip("-o link | cut -d: -f-2") == links
    assert ping(near, at6(APP, 2))
    hosts[0].run(hosts[0].dataplane.detach(TaskId("near")))
    hosts[0].restart()
    sync(hosts[0], networks=(PLAIN,))
    assert hosts[0].ip("-6 route show proto 97") == ""
    assert hosts[0].run(hosts[0].dataplane.check()) == ()


def test_a_host_that_learns_its_routes_from_routers_goes_on_to_listen(hosts: list[Host]) -> None:
    host = hosts[2]
    host.nsenter("sysctl -qw net.ipv6.conf.all.forwarding=0 net.ipv6.conf.eth0.accept_ra=1")
    sync(host)
    assert host.nsenter("sysctl -n net.ipv6.conf.eth0.accept_ra").strip() == "2"
    assert host.nsenter("sysctl -n net.ipv6.conf.all.forwarding").strip() == "1"
