"""The bandwidth and the MAC of a task's interface, with real traffic between two hosts."""

import json
import socket
import time
from collections.abc import Iterator

import pytest

from agent.network.base import UNLIMITED, Attachment, Bandwidth, DesiredOverlay, Peer
from agent.network.names import Names
from pyswarm_core.ids import NetworkId, TaskId
from tests.fixtures.netns import inside
from tests.integration.network.hosts import Host, Rig, ping, sh

APP = NetworkId("netapp")
NAMES = Names("tst")
T1, T2 = TaskId("t1"), TaskId("t2")
HERE, THERE = "10.128.1.2", "10.128.2.2"
RATE = 2_000_000
"""Bits a second: 250 bytes a millisecond."""
BURST, SENT = 32 << 10, 1 << 20
MAC = "02:42:ac:11:00:09"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("short"), 2)
    for host in made.hosts:
        host.run(host.dataplane.sync([overlay(host)]))
    yield made
    made.close()


@pytest.fixture
def host(rig: Rig) -> Iterator[Host]:
    """The first host; a task without limits is on the second."""
    there = rig.hosts[1]
    attach(there, T2, THERE)
    yield rig.hosts[0]
    for one in rig.hosts:
        for task in one.run(one.dataplane.found()):
            one.run(one.dataplane.detach(task))


def overlay(host: Host) -> DesiredOverlay:
    other = 3 - host.number
    peer = Peer(
        node_number=other,
        address=f"192.168.77.{10 + other}",
        blocks=(f"10.128.{other}.0/26",),
    )
    return DesiredOverlay(
        network_id=APP, name="app", vni=4097, subnet="10.128.0.0/16",
        node_number=host.number, local_blocks=(f"10.128.{host.number}.0/26",), peers=(peer,),
    )  # fmt: skip


def attach(
    host: Host, task: TaskId, address: str, bandwidth: Bandwidth = UNLIMITED, mac: str = ""
) -> str:
    place = Attachment(network_id=APP, address=address, bandwidth=bandwidth, mac=mac)
    return host.run(host.dataplane.attach(task, [place]))


def bucket(netns: str, device: str) -> dict[str, int] | None:
    """The counters of a device's token bucket; None if it has none."""
    shown = json.loads(sh(f"nsenter --net={netns} tc -s -j qdisc show dev {device}"))
    return next((each for each in shown if each["kind"] == "tbf"), None)


def blast(netns: str, address: str) -> None:
    """Send SENT bytes in datagrams, as fast as the kernel takes them."""

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            for _ in range(SENT // 1024):
                udp.sendto(b"x" * 1024, (address, 9))

    inside(netns, send)


def assert_limited(limited: str, device: str, sender: str, address: str) -> None:
    """What the bucket lets through is bounded by the time that passes, however long that is."""
    began = time.monotonic()
    before = bucket(limited, device)
    assert before
    blast(sender, address)
    after = bucket(limited, device)
    assert after
    passed_s = time.monotonic() - began
    passed = after["bytes"] - before["bytes"]
    assert 0 < passed <= BURST + 1.1 * passed_s * RATE / 8
    assert after["overlimits"] > before["overlimits"]


def test_what_a_task_sends_is_limited(host: Host) -> None:
    task = attach(host, T1, HERE, Bandwidth(egress=RATE))
    assert ping(task, THERE)
    assert_limited(task, "eth0", task, THERE)
    assert bucket(host.netns, NAMES.veth(T1, APP)) is None


def test_what_a_task_receives_by_the_fast_path_is_limited(rig: Rig, host: Host) -> None:
    task = attach(host, T1, HERE, Bandwidth(ingress=RATE))
    assert ping(task, THERE)
    host.run(host.dataplane.renew_fast_path())
    listed = host.nsenter(f"nft list chain netdev pyswarm_tst from_{NAMES.vxlan(APP)}")
    assert NAMES.veth(T1, APP) in listed
    sender = attach(rig.hosts[1], T2, THERE)
    assert_limited(host.netns, NAMES.veth(T1, APP), sender, HERE)
    assert bucket(task, "eth0") is None


def test_what_a_task_receives_from_its_own_host_is_limited(host: Host) -> None:
    attach(host, T1, HERE, Bandwidth(ingress=RATE))
    near = attach(host, TaskId("near"), "10.128.1.3")
    assert_limited(host.netns, NAMES.veth(T1, APP), near, HERE)


def test_limits_change_while_the_task_runs_and_are_taken_away(host: Host) -> None:
    task, port = attach(host, T1, HERE), NAMES.veth(T1, APP)
    host.run(host.dataplane.limit(T1, Bandwidth(egress=10 * RATE, ingress=RATE)))
    assert bucket(task, "eth0")
    assert_limited(host.netns, port, attach(host, TaskId("near"), "10.128.1.3"), HERE)
    host.run(host.dataplane.limit(T1, Bandwidth(egress=RATE)))
    assert bucket(host.netns, port) is None
    assert_limited(task, "eth0", task, THERE)
    for _ in range(2):
        host.run(host.dataplane.limit(T1, UNLIMITED))
        assert bucket(task, "eth0") is None
    assert ping(task, THERE)
    host.run(host.dataplane.limit(TaskId("unknown"), Bandwidth(egress=RATE)))


def test_a_port_that_is_made_anew_has_the_limit(host: Host) -> None:
    task, port = attach(host, T1, HERE, Bandwidth(egress=RATE)), NAMES.veth(T1, APP)
    host.run(host.dataplane.limit(T1, Bandwidth(egress=RATE, ingress=RATE)))
    host.ip(f"link del {port}")
    host.run(host.dataplane.sync([overlay(host)]))
    assert bucket(task, "eth0")
    assert bucket(host.netns, port)


def test_rates_beyond_four_gigabytes_a_second_are_exact(host: Host) -> None:
    task = attach(host, T1, HERE, Bandwidth(egress=100_000_000_000))
    shown = sh(f"nsenter --net={task} tc qdisc show dev eth0")
    assert "rate 100Gbit" in shown


def test_a_task_has_its_mac_and_is_reached_after_one_with_another(rig: Rig, host: Host) -> None:
    far = attach(rig.hosts[1], T2, THERE)
    for task, mac in ((T1, ""), (TaskId("own"), MAC), (TaskId("last"), "")):
        near = attach(host, task, HERE, mac=mac)
        shown = json.loads(sh(f"nsenter --net={near} ip -j link show eth0"))
        assert (shown[0]["address"] == MAC) == bool(mac)
        assert ping(near, THERE)
        assert ping(far, HERE)
        assert ping(host.netns, HERE)
        assert host.run(host.dataplane.check()) == ()
        host.run(host.dataplane.detach(task))
