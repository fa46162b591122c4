"""An underlay that carries less than the hosts' devices allow, and drops the rest silently."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from agent.network.base import Attachment, DesiredOverlay, NetworkFailed, Peer
from agent.network.names import Names
from pyswarm_core.ids import NetworkId, TaskId
from tests.integration.network.hosts import Host, Rig, narrow, ping, sh
from tests.integration.network.traffic import PORT, Listeners, open_socket

APP = NetworkId("netapp")
NAMES = Names("tst")
FULL = 1450 - 28
"""The payload of an echo that fills an overlay's packet."""


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("paths"), 3)
    yield made
    made.close()


@pytest.fixture
def tasks(rig: Rig) -> Iterator[list[str]]:
    """A task on each host, on one network."""
    paths = []
    for host in rig.hosts:
        host.run(host.dataplane.sync([overlay(host)]))
        place = Attachment(network_id=APP, address=f"10.128.{host.number}.2")
        paths.append(host.run(host.dataplane.attach(TaskId(f"t{host.number}"), [place])))
        # A wire carries no packets of 64 KiB.
        sh(f"nsenter --net={paths[-1]} ip link set eth0 gso_max_segs 1")
    yield paths
    for host in rig.hosts:
        host.run(host.dataplane.detach(TaskId(f"t{host.number}")))
        host.run(host.dataplane.sync(()))


def overlay(host: Host) -> DesiredOverlay:
    return DesiredOverlay(
        network_id=APP, name="app", vni=4097, subnet="10.128.0.0/16", node_number=host.number,
        local_blocks=(f"10.128.{host.number}.0/26",),
        peers=tuple(
            Peer(node_number=n, address=f"192.168.77.{10 + n}", blocks=(f"10.128.{n}.0/26",))
            for n in (1, 2, 3) if n != host.number
        ),
    )  # fmt: skip


def measure(rig: Rig) -> None:
    for host in rig.hosts:
        host.run(host.dataplane.measure_paths())


def routes_with_mtu(host: Host) -> list[str]:
    lines = host.ip(f"route show dev {NAMES.vxlan(APP)}").splitlines()
    return [" ".join((line.split()[0], *line.split()[-2:])) for line in lines if " mtu " in line]


def delivered(near: str, far: str, address: str, stall_s: float = 60.0) -> bool:
    """Whether 200,000 bytes get through a connection, with at most so many seconds without
    progress.
    """
    size = 200_000
    with Listeners([far]) as listeners, open_socket(near) as sender:
        sender.connect((address, PORT))
        receiver, _ = listeners.accept()
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
        sender.sendall(bytes(size))
        receiver.settimeout(stall_s)
        try:
            while size:
                size -= len(receiver.recv(65536))
        except TimeoutError:
            pass
        receiver.close()
    return size == 0


def test_where_full_packets_are_lost_tasks_are_told_and_connections_go_on(
    rig: Rig, tasks: list[str]
) -> None:
    with narrow(2, 1400):
        assert not ping(tasks[0], "10.128.2.2", payload=FULL, timeout_s=0.3)
        assert not delivered(tasks[0], tasks[1], "10.128.2.2", stall_s=2)
        measure(rig)
        assert routes_with_mtu(rig.hosts[0]) == ["10.128.2.0/26 mtu 1350"]
        assert rig.hosts[0].dataplane.path_mtu.measured == {
            "192.168.77.12": 1400,
            "192.168.77.13": 1500,
        }
        assert delivered(tasks[0], tasks[1], "10.128.2.2")
        assert delivered(tasks[1], tasks[0], "10.128.1.2")
        assert ping(tasks[0], "10.128.2.2", payload=1350 - 28)
        assert ping(tasks[0], "10.128.3.2", payload=FULL)
        assert rig.hosts[0].run(rig.hosts[0].dataplane.check()) == ()
    measure(rig)
    assert routes_with_mtu(rig.hosts[0]) == []
    assert rig.hosts[0].run(rig.hosts[0].dataplane.check()) == ()


def test_paths_are_measured_beside_a_first_network(rig: Rig) -> None:
    host = rig.hosts[0]
    host.restart()

    async def both() -> None:
        syncing = asyncio.create_task(host.dataplane.sync([overlay(host)]))
        await asyncio.sleep(0)  # the network is known now, and no path of the host
        await host.dataplane.measure_paths()
        await syncing

    host.run(both())
    assert set(host.dataplane.path_mtu.measured.values()) == {1500}
    host.run(host.dataplane.sync(()))


def test_a_host_without_its_own_address_measures_nothing(rig: Rig) -> None:
    host = rig.hosts[0]
    host.restart()
    host.ip(f"addr del {host.address}/24 dev eth0")
    try:
        with pytest.raises(NetworkFailed, match="no device of this node has the data path address"):
            host.run(host.dataplane.sync([overlay(host)]))
        host.run(host.dataplane.measure_paths())
        assert host.dataplane.path_mtu.measured == {}
    finally:
        host.ip(f"addr add {host.address}/24 dev eth0")
        host.run(host.dataplane.sync(()))


def test_a_host_that_lets_no_echo_through_keeps_full_packets(rig: Rig, tasks: list[str]) -> None:
    deaf = rig.hosts[2]
    deaf.nsenter("nft add table ip deaf")
    try:
        deaf.nsenter("nft add chain ip deaf in '{ type filter hook input priority 0; }'")
        deaf.nsenter("nft add rule ip deaf in icmp type echo-request drop")
        rig.hosts[0].restart()
        rig.hosts[0].run(rig.hosts[0].dataplane.sync([overlay(rig.hosts[0])]))
        rig.hosts[0].run(rig.hosts[0].dataplane.measure_paths())
        assert "192.168.77.13" not in rig.hosts[0].dataplane.path_mtu.measured
        assert routes_with_mtu(rig.hosts[0]) == []
    finally:
        deaf.nsenter("nft delete table ip deaf")
