"""Tasks that join and leave networks while they run."""

from collections.abc import Iterator, Sequence

import pytest

from agent.network.base import (
    UNLIMITED,
    Attachment,
    Backend,
    Bandwidth,
    DesiredEndpoint,
    DesiredOverlay,
    NetworkFailed,
    Peer,
)
from agent.network.names import Names
from pyswarm_core.ids import NetworkId, ServiceId, TaskId
from tests.integration.network.hosts import Host, Rig, bare_afterwards, ping, sh

APP, OTHER, DUAL = NetworkId("netapp"), NetworkId("netother"), NetworkId("netdual")
SUBNETS = {
    APP: ("10.128", "", 4097),
    OTHER: ("10.129", "", 4098),
    DUAL: ("10.130", "fd00:130::", 4099),
}
NAMES = Names("tst")
TASK = TaskId("task")


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("net"), 2)
    yield made
    made.close()


@pytest.fixture
def hosts(rig: Rig) -> Iterator[list[Host]]:
    with bare_afterwards(rig, footprint):
        for host in rig.hosts:
            host.run(host.dataplane.sync(overlays(host)))
            attach(host, f"peer{host.number}", APP, OTHER, DUAL, last=9)
        yield rig.hosts


def footprint(host: Host) -> tuple[str, ...]:
    return (
        host.ip("-4 route show table all"),
        host.ip("-6 route show table all proto 97"),
        host.ip("-4 neigh show nud permanent"),
        host.nsenter("nft list tables"),
        host.ip("-br link show type veth"),
        host.ip("-br link show type bridge"),
    )


def overlays(host: Host) -> list[DesiredOverlay]:
    return [overlay(host, network) for network in SUBNETS]


def overlay(host: Host, network: NetworkId) -> DesiredOverlay:
    prefix, six, vni = SUBNETS[network]
    return DesiredOverlay(
        network_id=network, name=network[3:], vni=vni, subnet=f"{prefix}.0.0/16",
        subnet6=f"{six}/64" if six else "", node_number=host.number,
        local_blocks=(f"{prefix}.{host.number}.0/26",),
        peers=tuple(
            Peer(node_number=n, address=f"192.168.77.{10 + n}", blocks=(f"{prefix}.{n}.0/26",))
            for n in (1, 2) if n != host.number
        ),
    )  # fmt: skip


def at(network: NetworkId, number: int, last: int = 2) -> str:
    return f"{SUBNETS[network][0]}.{number}.{last}"


def attach(
    host: Host,
    task: str,
    *networks: NetworkId,
    names: Sequence[str] = ("eth0", "eth1", "eth2"),
    gone: Sequence[NetworkId] = (),
    last: int = 2,
    bandwidth: Bandwidth = UNLIMITED,
) -> str:
    attachments = [
        Attachment(
            network_id=network, address=at(network, host.number, last), ifname=name,
            bandwidth=bandwidth,
        )
        for network, name in zip(networks, names, strict=False)
    ]  # fmt: skip
    return host.run(host.dataplane.attach(TaskId(task), attachments, gone))


def ip(path: str, words: str) -> str:
    return sh(f"nsenter --net={path} ip {words}")


def links(path: str) -> list[str]:
    found = [line.split(": ")[1].partition("@")[0] for line in ip(path, "-o link").splitlines()]
    return [name for name in found if name.startswith("eth")]


def ports(host: Host) -> set[str]:
    """The host's ends of all tasks' interfaces."""
    lines = host.ip("-o link show type veth").splitlines()
    names = {line.split(": ")[1].partition("@")[0] for line in lines}
    return {name for name in names if name.startswith(f"{NAMES.prefix}t")}


def test_a_running_task_joins_a_network_and_leaves_it(hosts: list[Host]) -> None:
    here = hosts[0]
    path = attach(here, TASK, APP)
    before = ports(here)
    assert not ping(path, at(OTHER, 2, 9), timeout_s=0.3)
    assert attach(here, TASK, APP, OTHER) == path
    assert links(path) == ["eth0", "eth1"]
    for number in (1, 2):
        assert ping(path, at(OTHER, number, 9))
        assert ping(path, at(APP, number, 9))
    assert here.run(here.dataplane.check()) == ()
    attach(here, TASK, APP, gone=[OTHER])
    assert links(path) == ["eth0"]
    assert ports(here) == before
    assert not ping(path, at(OTHER, 2, 9), timeout_s=0.3)
    assert ping(path, at(APP, 2, 9))
    assert here.run(here.dataplane.check()) == ()


def test_the_default_route_moves_to_a_network_that_stays(hosts: list[Host]) -> None:
    here = hosts[0]
    path = attach(here, TASK, APP, OTHER)
    assert "dev eth0" in ip(path, "route show default")
    attach(here, TASK, OTHER, names=["eth1"], gone=[APP])
    default = ip(path, "route show default")
    assert "via 10.129.1.1 dev eth1" in default
    assert "10.129.0.0/16" not in ip(path, "route"), "what it replaces"
    assert ping(path, at(OTHER, 2, 9))
    attach(here, TASK, APP, OTHER, names=["eth0", "eth1"])
    assert "dev eth0" in ip(path, "route show default")
    assert ip(path, "route show default").count("default") == 1
    assert ping(path, at(OTHER, 2, 9))
    assert ping(path, at(APP, 2, 9))


def test_a_task_leaves_all_networks_and_comes_back(hosts: list[Host]) -> None:
    here = hosts[0]
    path = attach(here, TASK, APP)
    attach(here, TASK, gone=[APP])
    assert links(path) == []
    assert ip(path, "route") == ""
    attach(here, TASK, OTHER)
    assert links(path) == ["eth0"]
    assert ping(path, at(OTHER, 2, 9))


@pytest.mark.parametrize("first", [APP, None])
def test_a_task_without_ipv6_joins_a_dual_stack_network(
    hosts: list[Host], first: NetworkId | None
) -> None:
    here = hosts[0]
    joined = [first] if first else []
    path = attach(here, TASK, *joined)
    attach(here, TASK, *joined, DUAL)
    assert ping(path, at(DUAL, 2, 9))
    assert ping(path, "fd00:130::209")
    if first:
        assert "inet6" not in ip(path, "-6 addr show dev eth0")
        assert ping(path, at(APP, 2, 9))
    attach(here, TASK, *joined, OTHER, gone=[DUAL])
    assert "inet6" not in ip(path, f"-6 addr show dev eth{len(joined)}"), "it has no IPv6 network"


def test_a_dual_stack_task_that_joins_another_network_is_kept_off_ipv6_there(
    hosts: list[Host],
) -> None:
    here = hosts[0]
    path = attach(here, TASK, DUAL)
    attach(here, TASK, DUAL, OTHER)
    assert "inet6" not in ip(path, "-6 addr show dev eth1")
    assert ping(path, "fd00:130::209")


def test_another_address_on_the_same_network_is_another_interface(hosts: list[Host]) -> None:
    here = hosts[0]
    path = attach(here, TASK, APP)
    attach(here, TASK, APP, last=5)
    assert at(APP, 1, 5) in ip(path, "-4 addr show dev eth0")
    assert at(APP, 1) + "/" not in ip(path, "-4 addr show dev eth0")
    assert ping(path, at(APP, 2, 9))


def test_virtual_addresses_come_and_go_with_the_network(hosts: list[Host]) -> None:
    here = hosts[0]
    endpoint = DesiredEndpoint(
        service_id=ServiceId("s"), service_name="web", network_id=OTHER, vip="10.129.9.9",
        backends=(Backend(TaskId("peer2"), 1, at(OTHER, 2, 9)),),
    )  # fmt: skip
    here.run(here.dataplane.sync(overlays(here), [endpoint]))
    attach(here, TASK, APP)
    backends = here.dataplane.backends
    assert here.run(backends(TASK, "10.129.9.9")) is None
    attach(here, TASK, APP, OTHER)
    assert here.run(backends(TASK, "10.129.9.9")) == (at(OTHER, 2, 9),)
    attach(here, TASK, APP, gone=[OTHER])
    assert here.run(backends(TASK, "10.129.9.9")) is None


def test_a_new_interface_has_the_tasks_bandwidth(hosts: list[Host]) -> None:
    here = hosts[0]
    bandwidth = Bandwidth(egress=8_000_000)
    path = attach(here, TASK, APP, bandwidth=bandwidth)
    attach(here, TASK, APP, OTHER, bandwidth=bandwidth)
    for name in ("eth0", "eth1"):
        assert "rate 8Mbit" in sh(f"nsenter --net={path} tc qdisc show dev {name}")


def test_a_restarted_agent_removes_what_a_former_one_attached(hosts: list[Host]) -> None:
    here = hosts[0]
    path = attach(here, TASK, APP)
    before = ports(here)
    attach(here, TASK, APP, OTHER)
    here.restart()
    here.run(here.dataplane.sync(overlays(here)))
    for number, host_task in ((1, "peer1"),):
        attach(here, host_task, APP, OTHER, DUAL, last=9)
        assert number == here.number
    attach(here, TASK, APP, gone=[OTHER])
    assert ports(here) == before
    assert links(path) == ["eth0"]
    assert ping(path, at(APP, 2, 9))


def test_a_sync_repairs_no_interface_that_is_left(hosts: list[Host]) -> None:
    here = hosts[0]
    path = attach(here, TASK, APP, OTHER)
    attach(here, TASK, APP, gone=[OTHER])
    here.run(here.dataplane.sync(overlays(here)))
    assert links(path) == ["eth0"]
    here.ip(f"link del {NAMES.veth(TASK, APP)}")
    here.run(here.dataplane.sync(overlays(here)))
    assert links(path) == ["eth0"], "it repairs the one that stays"
    assert ping(path, at(APP, 2, 9))


def test_a_join_that_fails_leaves_the_other_interfaces(hosts: list[Host]) -> None:
    here = hosts[0]
    path = attach(here, TASK, APP)
    before = ports(here)
    here.ip(f"link set {NAMES.bridge(OTHER)} name moved0")
    try:
        with pytest.raises(NetworkFailed, match="does not exist"):
            attach(here, TASK, APP, OTHER)
        attach(here, TASK, APP, gone=[OTHER])
        assert ports(here) == before
        assert links(path) == ["eth0"]
    finally:
        here.ip(f"link set moved0 name {NAMES.bridge(OTHER)}")
    assert ping(path, at(APP, 2, 9))
