"""Overlays between hosts.

Reachability, MTU, repair, and that nothing is left behind.
"""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agent.network.base import (
    Attachment,
    DesiredOverlay,
    NetworkFailed,
    Peer,
    host_bridge,
)
from agent.network.names import Names
from pyswarm_core.ids import NetworkId, TaskId
from tests.fixtures.netns import inside
from tests.integration.network.hosts import (
    UNDERLAY_GATEWAY,
    Host,
    Rig,
    bare_afterwards,
    ping,
    sh,
)

APP, OTHER, CLOSED = NetworkId("netapp"), NetworkId("netother"), NetworkId("netclosed")
SUBNETS = {APP: ("10.128", 4097), OTHER: ("10.129", 4098), CLOSED: ("10.130", 4099)}
NAMES = Names("tst")


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("net"), 3)
    yield made
    made.close()


@pytest.fixture
def hosts(rig: Rig) -> Iterator[list[Host]]:
    """Hosts that carry all three networks; afterwards they must have as little state as before."""
    with bare_afterwards(rig, footprint):
        for host in rig.hosts:
            host.run(host.dataplane.sync(overlays(host)))
        yield rig.hosts


def footprint(host: Host) -> tuple[str, ...]:
    """The state that a dataplane may leave in a host, without devices of tasks' namespaces."""
    links = [
        line.split(": ")[1].split("@")[0]
        for line in host.ip("-o link").splitlines()
        if f"{NAMES.prefix}t" not in line
    ]
    return (
        *links,
        host.ip("-4 route show table all"),
        host.nsenter("nft list tables"),
        "\n".join(
            line for line in sh("cat /proc/mounts").splitlines() if str(host.directory) in line
        ),
        ",".join(path.name for path in host.directory.glob("*")),
    )


def overlays(
    host: Host, hosts: int = 3, networks: tuple[NetworkId, ...] = (APP, OTHER, CLOSED)
) -> list[DesiredOverlay]:
    return [overlay(host, network, hosts) for network in networks]


def overlay(host: Host, network: NetworkId, hosts: int = 3) -> DesiredOverlay:
    prefix, vni = SUBNETS[network]
    return DesiredOverlay(
        network_id=network, name=network[3:], vni=vni, subnet=f"{prefix}.0.0/16",
        node_number=host.number, internal=network == CLOSED,
        local_blocks=(f"{prefix}.{host.number}.0/26",),
        peers=tuple(
            Peer(node_number=n, address=f"192.168.77.{10 + n}", blocks=(f"{prefix}.{n}.0/26",))
            for n in range(1, hosts + 1) if n != host.number
        ),
    )  # fmt: skip


def attach(host: Host, task: str, *networks: NetworkId, last: int = 2) -> str:
    attachments = [
        Attachment(
            network_id=network,
            address=f"{SUBNETS[network][0]}.{host.number}.{last}",
            ifname=f"eth{n}",
        )
        for n, network in enumerate(networks)
    ]
    return host.run(host.dataplane.attach(TaskId(task), attachments))


def test_tasks_of_one_network_reach_each_other_on_every_host(hosts: list[Host]) -> None:
    paths = [attach(host, f"task{host.number}", APP) for host in hosts]
    neighbour = attach(hosts[0], "task1b", APP, last=3)
    for path in paths:
        for number in (1, 2, 3):
            assert ping(path, f"10.128.{number}.2")
    assert ping(neighbour, "10.128.1.2")
    assert ping(paths[1], "10.128.1.3")


def test_tasks_of_different_networks_do_not_reach_each_other(hosts: list[Host]) -> None:
    here = attach(hosts[0], "app", APP)
    attach(hosts[0], "other", OTHER)
    attach(hosts[1], "faraway", OTHER)
    assert not ping(here, "10.129.1.2", timeout_s=0.3)
    assert not ping(here, "10.129.2.2", timeout_s=0.3)


def test_a_task_of_two_networks_reaches_both(hosts: list[Host]) -> None:
    both = attach(hosts[0], "both", APP, OTHER)
    attach(hosts[1], "a", APP)
    attach(hosts[1], "o", OTHER)
    assert ping(both, "10.128.2.2")
    assert ping(both, "10.129.2.2")


def test_a_gateway_that_hosts_share_routes_out_and_to_peers(hosts: list[Host]) -> None:
    way = "10.128.200.1"
    shared = [msgspec.structs.replace(overlay(host, APP), gateway=way) for host in hosts]
    for host, desired in zip(hosts, shared, strict=True):
        host.run(host.dataplane.sync([desired]))
        assert host.run(host.dataplane.check()) == ()
    task = attach(hosts[0], "task", APP)
    attach(hosts[1], "far", APP)
    assert f"default via {way} dev eth0" in sh(f"nsenter --net={task} ip route")
    assert ping(task, way)
    assert ping(task, "10.128.2.2")
    assert ping(task, UNDERLAY_GATEWAY)


def test_egress_carries_the_hosts_address(hosts: list[Host], rig: Rig) -> None:
    task = attach(hosts[0], "task", APP)
    assert ping(task, UNDERLAY_GATEWAY)
    server = inside(rig.netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    client = inside(task, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with server, client:
        server.bind((UNDERLAY_GATEWAY, 0))
        server.settimeout(60)
        client.sendto(b"hello", server.getsockname())
        assert server.recvfrom(100)[1][0] == hosts[0].address


def test_traffic_between_tasks_keeps_their_addresses(hosts: list[Host]) -> None:
    near, far = attach(hosts[0], "near", APP), attach(hosts[1], "far", APP)
    server = inside(far, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    client = inside(near, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with server, client:
        server.bind(("10.128.2.2", 0))
        server.settimeout(60)
        client.sendto(b"hello", server.getsockname())
        assert server.recvfrom(100)[1][0] == "10.128.1.2"


def test_an_internal_network_has_no_way_out(hosts: list[Host]) -> None:
    task, far = attach(hosts[0], "task", CLOSED), attach(hosts[1], "far", CLOSED)
    assert ping(task, "10.130.2.2")
    assert ping(far, "10.130.1.2")
    assert not ping(task, UNDERLAY_GATEWAY, timeout_s=0.3)
    assert "default" not in sh(f"nsenter --net={task} ip route")
    # Nor with a route that the task adds.
    sh(f"nsenter --net={task} ip route add default via 10.130.1.1")
    assert not ping(task, UNDERLAY_GATEWAY, timeout_s=0.3)


def test_nobody_outside_opens_a_connection_to_a_task(hosts: list[Host], rig: Rig) -> None:
    attach(hosts[0], "task", APP)
    sh(f"nsenter --net={rig.netns} ip route add 10.128.1.0/26 via {hosts[0].address}")
    try:
        assert not ping(rig.netns, "10.128.1.2", timeout_s=0.3)
    finally:
        sh(f"nsenter --net={rig.netns} ip route del 10.128.1.0/26")


def test_other_forwarding_of_the_host_is_left_alone(hosts: list[Host], rig: Rig) -> None:
    host = hosts[0]
    sh(f"""ip -n {host.name} link add dm0 type veth peer name dm1
        ip -n {host.name} addr add 172.31.9.1/24 dev dm0
        ip -n {host.name} link set dm0 up; ip -n {host.name} link set dm1 up
        nsenter --net={rig.netns} ip route add 172.31.9.0/24 via {host.address}""")
    try:
        assert ping(rig.netns, "172.31.9.1")
        hooks = host.nsenter("nft list chain inet pyswarm_tst forward")
        assert "policy accept" in hooks
    finally:
        host.ip("link del dm0")
        sh(f"nsenter --net={rig.netns} ip route del 172.31.9.0/24")


def test_a_full_packet_passes_unfragmented_and_a_larger_one_is_refused(hosts: list[Host]) -> None:
    near = attach(hosts[0], "near", APP)
    attach(hosts[1], "far", APP)
    assert "mtu 1450" in sh(f"nsenter --net={near} ip link show eth0")
    assert ping(near, "10.128.2.2", payload=1450 - 28)
    assert not ping(near, "10.128.2.2", payload=1450 - 26, timeout_s=0.3)


def test_talking_to_other_hosts_takes_no_place_in_the_table_of_neighbours(
    hosts: list[Host],
) -> None:
    near = attach(hosts[0], "near", APP)
    attach(hosts[1], "far", APP)
    assert ping(near, "10.128.2.2")
    inside_task = counted(sh(f"nsenter --net={near} ip neigh show nud all"))
    on_host = counted(hosts[0].ip(f"neigh show nud all dev {NAMES.bridge(APP)}"))
    on_host += counted(hosts[0].ip(f"neigh show nud all dev {NAMES.vxlan(APP)}"))
    assert inside_task == []
    assert on_host in ([], ["10.128.1.2"])


def counted(neighbours: str) -> list[str]:
    """The addresses of entries that count towards the table's limit."""
    lines = neighbours.splitlines()
    return [ln.split()[0] for ln in lines if "PERMANENT" not in ln and "NOARP" not in ln]


def test_addresses_outside_every_block_are_unreachable_not_leaked(hosts: list[Host]) -> None:
    near = attach(hosts[0], "near", APP)
    hosts[0].ip("route get 10.128.2.2")
    with pytest.raises(AssertionError, match="No route to host"):
        hosts[0].ip("route get 10.128.99.2")
    assert not ping(near, "10.128.99.2", timeout_s=0.3)


def test_a_task_without_a_network_has_egress_by_the_host_bridge(hosts: list[Host]) -> None:
    host = hosts[0]
    bridge = host_bridge("172.29.0.0/20")
    host.run(host.dataplane.sync([*overlays(host), bridge]))
    place = Attachment(network_id=bridge.network_id, address="172.29.3.4")
    task = host.run(host.dataplane.attach(TaskId("alone"), [place]))
    app = attach(host, "app", APP)
    assert "mtu 1500" in sh(f"nsenter --net={task} ip link show eth0")
    assert ping(task, UNDERLAY_GATEWAY)
    assert not ping(task, "10.128.1.2", timeout_s=0.3)
    assert not ping(app, "172.29.3.4", timeout_s=0.3)


DISTURBANCES = {
    "route": "route del 10.128.2.0/26",
    "redirected route": "route replace 10.128.2.0/26 via 192.168.77.1",
    "neighbour": "neigh del 240.0.0.2 dev {vxlan}",
    "changed neighbour": "neigh replace 10.128.2.1 lladdr 02:00:00:00:00:09 dev {vxlan}",
    "address": "addr flush dev {bridge}",
    "down": "link set {vxlan} down",
    "bridge down": "link set {bridge} down",
    "tunnel": "link del {vxlan}",
    "bridge": "link del {bridge}",
    "port": "link del {port}",
    "unplugged port": "link set {port} nomaster",
    "mtu": "link set {vxlan} mtu 1280",
    "mac": "link set {vxlan} address 02:00:00:00:00:77",
}  # fmt: skip


@pytest.mark.parametrize("disturbance", list(DISTURBANCES))
def test_a_disturbed_device_or_entry_is_noticed_and_healed(
    hosts: list[Host], disturbance: str
) -> None:
    near = attach(hosts[0], "near", APP)
    attach(hosts[1], "far", APP)
    assert hosts[0].run(hosts[0].dataplane.check()) == ()
    hosts[0].ip(
        DISTURBANCES[disturbance].format(
            vxlan=NAMES.vxlan(APP), bridge=NAMES.bridge(APP), port=NAMES.veth("near", APP)
        )
    )
    assert hosts[0].run(hosts[0].dataplane.check()) != ()
    hosts[0].run(hosts[0].dataplane.sync(overlays(hosts[0])))
    assert hosts[0].run(hosts[0].dataplane.check()) == ()
    assert ping(near, "10.128.2.2", payload=1450 - 28)


def test_a_removed_fdb_entry_is_noticed_and_healed(hosts: list[Host]) -> None:
    near = attach(hosts[0], "near", APP)
    attach(hosts[1], "far", APP)
    hosts[0].nsenter(f"bridge fdb del 02:70:00:00:00:02 dev {NAMES.vxlan(APP)} self")
    assert not ping(near, "10.128.2.2", timeout_s=0.3)
    assert [drift.kind for drift in hosts[0].run(hosts[0].dataplane.check())] == ["fdb"]
    hosts[0].run(hosts[0].dataplane.sync(overlays(hosts[0])))
    assert ping(near, "10.128.2.2")


@pytest.mark.parametrize(
    "command",
    [
        "delete table inet pyswarm_tst",
        "flush chain inet pyswarm_tst forward",
        "delete table netdev pyswarm_tst",
        "flush ruleset",
    ],
)
def test_disturbed_rules_are_noticed_and_healed(hosts: list[Host], command: str) -> None:
    here = attach(hosts[0], "app", APP)
    attach(hosts[0], "other", OTHER)
    hosts[0].run(hosts[0].dataplane.renew_fast_path())  # otherwise they would be rewritten anyway
    hosts[0].nsenter(f"nft {command}")
    assert {drift.kind for drift in hosts[0].run(hosts[0].dataplane.check())} == {"rules"}
    hosts[0].run(hosts[0].dataplane.sync(overlays(hosts[0])))
    assert hosts[0].run(hosts[0].dataplane.check()) == ()
    assert not ping(here, "10.129.1.2", timeout_s=0.3)
    assert ping(here, UNDERLAY_GATEWAY)


def test_foreign_rules_are_no_drift(hosts: list[Host]) -> None:
    hosts[0].nsenter("nft add table inet somebody")
    try:
        assert hosts[0].run(hosts[0].dataplane.check()) == ()
    finally:
        hosts[0].nsenter("nft delete table inet somebody")


def test_a_peer_that_left_loses_its_entries_and_one_that_came_gets_them(hosts: list[Host]) -> None:
    host = hosts[0]
    host.run(host.dataplane.sync(overlays(host, hosts=2)))
    assert "10.128.3.0/26" not in host.ip("route")
    assert "02:70:00:00:00:03" not in host.nsenter(f"bridge fdb show dev {NAMES.vxlan(APP)}")
    host.run(host.dataplane.sync(overlays(host)))
    assert "10.128.3.0/26" in host.ip("route")


def test_a_second_block_gets_its_own_gateway_and_reaches_the_first(hosts: list[Host]) -> None:
    host = hosts[0]
    first = attach(host, "first", APP)
    wide = overlay(host, APP)
    wide = DesiredOverlay(
        network_id=APP, name="app", vni=wide.vni, subnet=wide.subnet, node_number=1,
        local_blocks=(*wide.local_blocks, "10.128.1.64/26"), peers=wide.peers,
    )  # fmt: skip
    host.run(host.dataplane.sync([wide]))
    place = Attachment(network_id=APP, address="10.128.1.66")
    second = host.run(host.dataplane.attach(TaskId("second"), [place]))
    assert ping(second, "10.128.1.2")
    assert ping(first, "10.128.1.66")


def test_networks_go_without_touching_those_that_stay(hosts: list[Host]) -> None:
    near = attach(hosts[0], "near", APP)
    attach(hosts[1], "far", APP)
    before = hosts[0].ip(f"-o link show {NAMES.vxlan(APP)}").split(":")[0]
    hosts[0].run(hosts[0].dataplane.sync(overlays(hosts[0], networks=(APP,))))
    assert NAMES.bridge(OTHER) not in hosts[0].ip("link")
    assert hosts[0].ip(f"-o link show {NAMES.vxlan(APP)}").split(":")[0] == before
    assert ping(near, "10.128.2.2")


def test_a_restarted_agent_adopts_its_tasks_without_disturbing_them(hosts: list[Host]) -> None:
    near = attach(hosts[0], "near", APP)
    attach(hosts[1], "far", APP)
    links = hosts[0].links()
    hosts[0].restart()
    assert hosts[0].run(hosts[0].dataplane.found()) == {"near"}
    hosts[0].run(hosts[0].dataplane.sync(overlays(hosts[0])))
    assert attach(hosts[0], "near", APP) == near
    assert hosts[0].links() == links
    assert ping(near, "10.128.2.2")


def test_a_task_is_attached_again_though_its_last_namespace_lingers(hosts: list[Host]) -> None:
    here, there = hosts[0], hosts[1]
    attach(there, "task-b", APP)
    with Path(attach(here, "task-a", APP)).open("rb"):  # as an ending process may hold it
        here.run(here.dataplane.detach(TaskId("task-a")))
        assert ping(attach(here, "task-a", APP), "10.128.2.2")


def test_a_detached_task_is_off_its_networks_though_its_namespace_lingers(
    hosts: list[Host],
) -> None:
    attach(hosts[1], "far", APP)
    with Path(attach(hosts[0], "near", APP)).open("rb") as lingering:
        path = f"/proc/self/fd/{lingering.fileno()}"
        assert ping(path, "10.128.2.2")
        hosts[0].run(hosts[0].dataplane.detach(TaskId("near")))
        assert not ping(path, "10.128.2.2", timeout_s=0.5)


def test_an_adopted_task_whose_device_is_gone_is_plugged_in_again(hosts: list[Host]) -> None:
    near = attach(hosts[0], "near", APP, OTHER)
    attach(hosts[1], "far", APP)
    hosts[0].restart()
    hosts[0].ip(f"link del {NAMES.veth('near', APP)}")
    hosts[0].run(hosts[0].dataplane.sync(overlays(hosts[0])))
    attach(hosts[0], "near", APP, OTHER)
    assert ping(near, "10.128.2.2")


def test_an_attachment_that_fails_leaves_nothing(hosts: list[Host]) -> None:
    host = hosts[0]
    attach(host, "holder", APP)
    same_name = [
        Attachment(network_id=network, address=f"{SUBNETS[network][0]}.{host.number}.3")
        for network in (APP, OTHER)
    ]
    with pytest.raises(NetworkFailed, match="File exists"):
        host.run(host.dataplane.attach(TaskId("unlucky"), same_name))
    assert host.run(host.dataplane.found()) == {"holder"}
    assert [path.name for path in host.directory.iterdir()] == ["holder"]
    assert attach(host, "unlucky", APP, OTHER, last=3), "once it is asked for as it should be"


def test_a_directory_that_cannot_be_written_fails_in_words_and_leaves_nothing(
    hosts: list[Host],
) -> None:
    host = hosts[0]
    aside = host.directory.rename(host.directory.with_suffix(".aside"))
    try:
        with pytest.raises(NetworkFailed, match="No such file or directory"):
            attach(host, "unlucky", APP)
    finally:
        aside.rename(host.directory)
    assert attach(host, "unlucky", APP), "once the directory is back"


def test_a_vni_that_another_device_holds_is_named(hosts: list[Host]) -> None:
    host = hosts[0]
    host.ip("link add foreign type vxlan id 9999 local 192.168.77.11 dstport 4789")
    taken = DesiredOverlay(
        network_id=NetworkId("clash"), name="clash", vni=9999, subnet="10.140.0.0/16",
        local_blocks=("10.140.1.0/26",), node_number=1,
    )  # fmt: skip
    try:
        cause, *others = host.run(host.dataplane.sync([*overlays(host), taken]))
        assert "VNI 9999 on port 4789" in cause.reason
        assert {fault.network_id for fault in (cause, *others)} == {"clash"}
        near = attach(host, "near", APP)
        attach(hosts[1], "far", APP)
        assert ping(near, "10.128.2.2"), "the other networks work all the same"
    finally:
        host.ip("link del foreign")


def test_a_network_in_the_way_of_the_hosts_routes_is_refused_and_named(hosts: list[Host]) -> None:
    host, lan = hosts[0], NetworkId("netlan")
    desired = [*overlays(host), msgspec.structs.replace(
        overlay(host, OTHER), network_id=lan, name="lan", vni=4100, subnet="10.140.0.0/16",
        local_blocks=("10.140.1.0/26",), peers=(),
    )]  # fmt: skip
    place = [Attachment(network_id=lan, address="10.140.1.2")]
    host.ip("link add lan0 type bridge")
    host.ip("link set lan0 up")
    host.ip("route add 10.140.7.0/24 dev lan0")
    try:
        host.run(host.dataplane.sync(desired))
        with pytest.raises(
            NetworkFailed, match=r"lan \(10.140.0.0/16\) .* \(10.140.7.0/24 dev lan0"
        ):
            host.run(host.dataplane.attach(TaskId("on-lan"), place))
        links = host.ip("-o link")
        assert NAMES.vxlan(lan) not in links
        assert NAMES.vxlan(APP) in links
        assert host.run(host.dataplane.check()) == ()
        host.ip("route del 10.140.7.0/24 dev lan0")
        assert [drift.detail for drift in host.run(host.dataplane.check())] == [
            "network lan can be carried"
        ]
        host.run(host.dataplane.sync(desired))
        host.run(host.dataplane.attach(TaskId("on-lan"), place))
        # A network that is carried stays, whatever routes are added; a restarted agent does not
        # remove it.
        host.ip("route add 10.140.7.0/24 dev lan0")
        host.restart()
        host.run(host.dataplane.sync(desired))
        assert NAMES.vxlan(lan) in host.ip("-o link")
    finally:
        host.ip("link del lan0")


def test_fifty_tasks_come_and_go_at_once(hosts: list[Host]) -> None:
    host = hosts[0]

    async def burst() -> None:
        async with asyncio.TaskGroup() as group:
            for last in range(2, 52):
                place = Attachment(network_id=APP, address=f"10.128.1.{last}")
                group.create_task(host.dataplane.attach(TaskId(f"t{last}"), [place]))

    host.run(burst())
    paths = [str(host.directory / f"t{last}") for last in range(2, 52)]
    assert len(host.run(host.dataplane.found())) == 50
    assert all(ping(path, "10.128.1.1") for path in paths[::7])
    assert ping(paths[0], "10.128.1.51")


def test_the_directory_of_namespaces_survives_stray_files(hosts: list[Host]) -> None:
    (Path(hosts[0].directory) / "halfmade").touch()
    assert hosts[0].run(hosts[0].dataplane.found()) == set()
    hosts[0].run(hosts[0].dataplane.detach(TaskId("halfmade")))
    assert not (hosts[0].directory / "halfmade").exists()
