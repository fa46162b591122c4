"""The fast path between two hosts' tasks: that packets take it, which ones do, and that it is
repaired.
"""

import json
import socket
import struct
from collections.abc import Iterator

import pytest

from agent.network.base import Attachment, DesiredOverlay, Peer
from agent.network.names import Names
from pyswarm_core.ids import NetworkId, TaskId
from tests.fixtures.netns import inside
from tests.integration.network.hosts import Host, Rig, ping

APP, OTHER = NetworkId("netapp"), NetworkId("netother")
VNIS = {APP: 4097, OTHER: 4098}
NAMES = Names("tst")
THERE, THERE6 = "10.128.2.2", "fd00:4097::202"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("short"), 2)
    yield made
    made.close()


@pytest.fixture
def task(rig: Rig) -> Iterator[str]:
    """A task on the first host, with another on the second; both hosts count the packets that they
    see and that they route. Neither task has rules of its own yet.
    """
    paths = []
    for host in rig.hosts:
        host.run(host.dataplane.sync([overlay(host), overlay(host, OTHER)]))
        place = Attachment(network_id=APP, address=f"10.128.{host.number}.2")
        paths.append(host.run(host.dataplane.attach(TaskId(f"t{host.number}"), [place])))
        host.nsenter("nft add table inet count")
        for hook in ("prerouting", "forward"):
            based = f"{{ type filter hook {hook} priority 10; }}"
            host.nsenter(f"nft add chain inet count {hook} '{based}'")
            for protocol in ("icmp", "icmpv6"):
                host.nsenter(f"nft add rule inet count {hook} {protocol} type echo-request counter")
    yield paths[0]
    for host in rig.hosts:
        host.nsenter("nft delete table inet count")
        for task_id in host.run(host.dataplane.found()):
            host.run(host.dataplane.detach(task_id))
        host.run(host.dataplane.sync(()))
        assert "pyswarm" not in host.nsenter("nft list tables")


def overlay(host: Host, network: NetworkId = APP) -> DesiredOverlay:
    other, vni = 3 - host.number, VNIS[network]
    prefix = f"10.{vni - 4097 + 128}"
    return DesiredOverlay(
        network_id=network, name=network[3:], vni=vni, subnet=f"{prefix}.0.0/16",
        subnet6=f"fd00:{vni}::/112",
        node_number=host.number, local_blocks=(f"{prefix}.{host.number}.0/26",),
        peers=(
            Peer(
                node_number=other,
                address=f"192.168.77.{10 + other}",
                blocks=(f"{prefix}.{other}.0/26",),
            ),
        ),
    )  # fmt: skip


def seen(host: Host, hook: str = "prerouting") -> int:
    """The number of echoes of either IP version at a hook so far."""
    listed = host.nsenter(f"nft list chain inet count {hook}")
    return sum(int(counted.split()[0]) for counted in listed.split("packets ")[1:])


def routed(host: Host) -> int:
    """The number of echoes that the host has routed so far."""
    return seen(host, "forward")


def give(rig: Rig) -> None:
    """Write the tasks' own rules."""
    for host in rig.hosts:
        host.run(host.dataplane.renew_fast_path())


def is_forwarded_to(host: Host, task_id: str) -> bool:
    """Whether the rules send packets to THERE to this task's port; the kernel may skip a port that
    is gone.
    """
    listed = host.nsenter(f"nft list chain netdev pyswarm_tst from_{NAMES.vxlan(APP)}")
    return f'{THERE} : "{NAMES.veth(task_id, APP)}"' in listed


@pytest.mark.parametrize("there", [THERE, THERE6])
def test_no_hook_of_ip_sees_what_a_task_with_its_own_rules_sends(
    rig: Rig, task: str, there: str
) -> None:
    give(rig)
    before = [seen(host) for host in rig.hosts]
    assert ping(task, there)
    assert [seen(host) for host in rig.hosts] == before
    assert [host.run(host.dataplane.check()) for host in rig.hosts] == [(), ()]


def test_a_task_that_comes_by_an_address_is_found_at_once(rig: Rig, task: str) -> None:
    give(rig)
    assert ping(task, THERE)
    there = rig.hosts[1]
    there.run(there.dataplane.detach(TaskId("t2")))
    assert not ping(task, THERE, timeout_s=0.3)
    there.run(there.dataplane.attach(TaskId("t3"), [Attachment(network_id=APP, address=THERE)]))
    assert is_forwarded_to(there, "t3")
    assert ping(task, THERE)
    assert routed(there) == 0


def test_a_port_that_is_made_anew_is_found(rig: Rig, task: str) -> None:
    give(rig)
    there = rig.hosts[1]
    there.ip(f"link del {NAMES.veth('t2', APP)}")
    assert "port" in [drift.kind for drift in there.run(there.dataplane.check())]
    there.run(there.dataplane.sync([overlay(there), overlay(there, OTHER)]))
    assert there.run(there.dataplane.check()) == ()
    assert is_forwarded_to(there, "t2")
    assert ping(task, THERE)


def test_a_task_whose_neighbour_entry_is_gone_gets_it_back(rig: Rig, task: str) -> None:
    give(rig)
    there = rig.hosts[1]
    there.ip(f"neigh del {THERE} dev {NAMES.veth('t2', APP)}")
    assert [drift.kind for drift in there.run(there.dataplane.check())] == ["neighbour"]
    there.run(there.dataplane.sync([overlay(there), overlay(there, OTHER)]))
    assert there.run(there.dataplane.check()) == ()
    assert ping(task, THERE)


def test_no_host_routes_what_goes_from_task_to_task(rig: Rig, task: str) -> None:
    assert ping(task, THERE)
    assert [routed(host) for host in rig.hosts] == [0, 0]


def test_a_hosts_own_address_is_no_tasks(rig: Rig, task: str) -> None:
    assert ping(task, "10.128.2.1")
    assert [routed(host) for host in rig.hosts] == [1, 0]


def test_what_is_at_the_end_of_its_life_goes_no_further(rig: Rig, task: str) -> None:
    inside = rig.hosts[0].nsenter(f"nsenter --net={task} cat /proc/sys/net/ipv4/ip_default_ttl")
    try:
        rig.hosts[0].nsenter(f"nsenter --net={task} sysctl -qw net.ipv4.ip_default_ttl=2")
        assert not ping(task, THERE, timeout_s=0.3)
        assert [routed(host) for host in rig.hosts] == [0, 0]
        rig.hosts[0].nsenter(f"nsenter --net={task} sysctl -qw net.ipv4.ip_default_ttl=3")
        assert ping(task, THERE)
    finally:
        rig.hosts[0].nsenter(f"nsenter --net={task} sysctl -qw net.ipv4.ip_default_ttl={inside}")


@pytest.mark.parametrize("device", [NAMES.vxlan(APP), NAMES.bridge(APP)])
def test_a_device_that_is_made_anew_gets_its_rules(rig: Rig, task: str, device: str) -> None:
    here = rig.hosts[0]
    here.ip(f"link del {device}")
    here.run(here.dataplane.sync([overlay(here), overlay(here, OTHER)]))
    assert here.run(here.dataplane.check()) == ()
    assert ping(task, THERE)
    assert routed(here) == 0


def test_lost_rules_cost_time_only_and_come_back(rig: Rig, task: str) -> None:
    here = rig.hosts[0]
    give(rig)
    here.nsenter("nft delete table netdev pyswarm_tst")
    assert ping(task, THERE)
    assert routed(here) == 1
    assert [drift.kind for drift in here.run(here.dataplane.check())] == ["rules"]
    here.run(here.dataplane.sync([overlay(here), overlay(here, OTHER)]))
    assert here.run(here.dataplane.check()) == ()
    assert ping(task, THERE)
    assert routed(here) == 1


@pytest.mark.parametrize("there", ["10.128.2.1", THERE])
def test_a_frame_that_a_task_made_enters_no_network(rig: Rig, task: str, there: str) -> None:
    frame = struct.pack("!II", 0x08000000, VNIS[OTHER] << 8) + bytes.fromhex(
        "0270000000020270000000010800"
    )
    with inside(task, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
        sender.sendto(frame.ljust(100, b"\0"), (there, 4789))
    assert ping(task, THERE)  # the frame has arrived by now
    seen = rig.hosts[1].ip(f"-j -s link show {NAMES.vxlan(OTHER)}")
    assert json.loads(seen)[0]["stats64"]["rx"]["packets"] == 0
