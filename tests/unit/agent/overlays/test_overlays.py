"""What an agent acknowledges of its networks, and when."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from agent.assignment import Assignment
from agent.network.base import (
    NO_CONTROL_PLANE,
    Backend,
    ControlPlane,
    DesiredEndpoint,
    DesiredOverlay,
    EndpointKey,
    Fault,
    Interfaces,
    NetworkFailed,
    Peer,
    Published,
    Underlay,
)
from agent.network.dns.fake import FakeResolvers
from agent.network.fake import FakeDataplane
from agent.network.overlay.fake import Fabric
from agent.network.state import KernelState
from agent.overlays import overlays as module
from agent.overlays.files import NetworkFiles
from agent.overlays.overlays import Overlays
from agent.overlays.plan import Plan, SavedPlan
from pyswarm_core.clock import MILLISECOND
from pyswarm_core.identity.certificates import EncryptionKey
from pyswarm_core.ids import NetworkId, ServiceId, TaskId
from pyswarm_core.limits import FAULT_AFTER, NETWORK_WAIT_MAX
from pyswarm_core.objects import TaskAddress
from pyswarm_core.states import Capability


class SlowDataplane(FakeDataplane):
    """A dataplane that syncs when the test permits it."""

    def __init__(self) -> None:
        super().__init__(Fabric(), Underlay(address="192.0.2.1"))
        self.begun = asyncio.Semaphore(0)
        self.let = asyncio.Semaphore(0)

    async def sync(
        self,
        overlays: Sequence[DesiredOverlay],
        endpoints: Sequence[DesiredEndpoint] = (),
        published: Sequence[Published] = (),
        *,
        control: ControlPlane = NO_CONTROL_PLANE,
    ) -> tuple[Fault, ...]:
        self.begun.release()
        await self.let.acquire()
        return await super().sync(overlays, endpoints, published, control=control)

    async def update(
        self, changed: Mapping[EndpointKey, DesiredEndpoint | None]
    ) -> tuple[Fault, ...]:
        self.begun.release()
        await self.let.acquire()
        return await super().update(changed)


class Watch:
    def __init__(self) -> None:
        self.syncs = 0
        self.mended = asyncio.Event()

    def synced(self, duration_s: float) -> None:
        self.syncs += 1

    def healed(self, drifts: int) -> None:
        if drifts:
            self.mended.set()


class Told:
    """The acknowledgements, and a method to wait for one."""

    def __init__(self) -> None:
        self.revisions: list[int] = []
        self.digests: list[int] = []
        self._more = asyncio.Event()

    def take(self, revision: int, digest: int) -> None:
        self.revisions.append(revision)
        self.digests.append(digest)
        self._more.set()

    async def until(self, revision: int) -> None:
        while revision not in self.revisions:
            self._more.clear()
            await self._more.wait()


def endpoint(vip: str) -> DesiredEndpoint:
    return DesiredEndpoint(
        service_id=ServiceId("web"), service_name="web", network_id=NetworkId("net"), vip=vip
    )


def assigned(revision: int, *endpoints: DesiredEndpoint, full: bool = False) -> Assignment:
    return Assignment(full, revision, (), (), (), (), endpoints)


@asynccontextmanager
async def running(
    dataplane: FakeDataplane, told: Told, path: Path, watch: Watch | None = None
) -> AsyncIterator[Overlays]:
    overlays = Overlays(
        dataplane,
        Plan("10.127.0.0/24", "192.0.2.1"),
        path,
        told.take,
        FakeResolvers(),
        watch=watch,
    )
    async with asyncio.TaskGroup() as group:
        work = group.create_task(overlays.run())
        yield overlays
        work.cancel()


async def test_a_revision_is_acknowledged_when_the_kernel_follows_it(tmp_path: Path) -> None:
    dataplane, told = SlowDataplane(), Told()
    async with running(dataplane, told, tmp_path / "o") as overlays:
        await dataplane.begun.acquire()
        dataplane.let.release()
        await overlays.settled()
        await overlays.assign(assigned(5, endpoint("10.0.0.9")))
        assert (told.revisions, overlays.programmed) == ([], 0)
        dataplane.let.release()
        await told.until(5)
        assert (list(dataplane.endpoints.values()), overlays.programmed) == (
            [endpoint("10.0.0.9")],
            5,
        )


async def test_what_comes_during_a_sync_waits_for_the_next(tmp_path: Path) -> None:
    dataplane, told = SlowDataplane(), Told()
    async with running(dataplane, told, tmp_path / "o") as overlays:
        await dataplane.begun.acquire()
        await overlays.assign(assigned(5, endpoint("10.0.0.9")))
        dataplane.let.release()
        await dataplane.begun.acquire()
        assert 5 not in told.revisions
        dataplane.let.release()
        await told.until(5)


async def test_a_revision_that_asks_for_nothing_is_acknowledged_with_the_sync_under_way(
    tmp_path: Path,
) -> None:
    dataplane, told = SlowDataplane(), Told()
    async with running(dataplane, told, tmp_path / "o") as overlays:
        await dataplane.begun.acquire()
        await overlays.assign(assigned(5))
        assert told.revisions == []
        dataplane.let.release()
        await told.until(5)


async def test_a_revision_that_asks_for_nothing_is_acknowledged_at_once(tmp_path: Path) -> None:
    dataplane, told = SlowDataplane(), Told()
    async with running(dataplane, told, tmp_path / "o") as overlays:
        await dataplane.begun.acquire()
        dataplane.let.release()
        await overlays.settled()
        await overlays.assign(assigned(5))
        assert told.revisions == [5]


async def test_what_is_acknowledged_has_the_digest_of_all_endpoints(tmp_path: Path) -> None:
    dataplane, told = FakeDataplane(Fabric(), Underlay(address="192.0.2.1")), Told()
    one = msgspec.structs.replace(endpoint("10.0.0.9"), digest=5)
    other = msgspec.structs.replace(one, service_id=ServiceId("other"), digest=6)
    async with running(dataplane, told, tmp_path / "o") as overlays:
        await overlays.assign(assigned(5, one))
        await told.until(5)
        await overlays.assign(assigned(6, other))
        await told.until(6)
        await overlays.assign(msgspec.structs.replace(assigned(7), removed_endpoints=(one.key,)))
        await told.until(7)
    assert told.digests == [5, 5 ^ 6, 6]


async def test_what_was_disturbed_is_counted_once_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REPAIR_PERIOD_S", 0.01)
    dataplane, told, watch = FakeDataplane(Fabric(), Underlay(address="192.0.2.1")), Told(), Watch()
    async with running(dataplane, told, tmp_path / "o", watch) as overlays:
        await asyncio.sleep(0)  # it begins
        await overlays.settled()
        desired = dataplane.overlay.kernel
        dataplane.overlay.kernel = KernelState()
        await watch.mended.wait()
        assert (dataplane.overlay.kernel, watch.syncs) == (desired, 2)


async def test_addresses_from_before_a_power_loss_are_not_given_out_while_held(
    tmp_path: Path,
) -> None:
    network = NetworkId("net")
    overlay = DesiredOverlay(
        network_id=network, name="net", vni=4097, subnet="10.0.0.0/16",
        node_number=1, local_blocks=("10.0.0.0/24",),
    )  # fmt: skip
    dataplane = FakeDataplane(Fabric(), Underlay(address="192.0.2.1"))
    async with running(dataplane, Told(), tmp_path / "o") as overlays:
        held = TaskAddress(network_id=network, address="10.0.0.2")
        overlays.adopt(TaskId("old"), (held,))
        await overlays.assign(Assignment(True, 1, (), (), (overlay,), (), ()))
        attached = await overlays.attach(TaskId("new"), [network])
        assert [a.address for a in attached.addresses] == ["10.0.0.3"]
        await overlays.detach(TaskId("old"))
        third = await overlays.attach(TaskId("third"), [network])
        assert [a.address for a in third.addresses] == ["10.0.0.4"]


NET, OTHER = NetworkId("net"), NetworkId("other")


def overlay(network_id: NetworkId, *peers: Peer) -> DesiredOverlay:
    number = 1 if network_id == NET else 2
    return DesiredOverlay(
        network_id=network_id, name=network_id, vni=4096 + number, subnet=f"10.{number}.0.0/16",
        node_number=1, local_blocks=(f"10.{number}.0.0/26",), peers=peers,
    )  # fmt: skip


def peer(address: str, number: int = 2) -> Peer:
    return Peer(node_number=number, address=address, blocks=(f"10.1.{number}.0/26",))


def everything(
    *overlays: DesiredOverlay, endpoints: tuple[DesiredEndpoint, ...] = ()
) -> Assignment:
    return Assignment(True, 1, (), (), overlays, (), endpoints)


class Brittle(FakeDataplane):
    """A dataplane that fails as a whole while it is told to."""

    def __init__(self) -> None:
        super().__init__(Fabric(), Underlay(address="192.0.2.1"))
        self.why = ""
        self.failures = asyncio.Semaphore(0)

    async def sync(
        self,
        overlays: Sequence[DesiredOverlay],
        endpoints: Sequence[DesiredEndpoint] = (),
        published: Sequence[Published] = (),
        *,
        control: ControlPlane = NO_CONTROL_PLANE,
    ) -> tuple[Fault, ...]:
        if self.why:
            self.failures.release()
            raise NetworkFailed(self.why)
        return await super().sync(overlays, endpoints, published, control=control)


@pytest.mark.parametrize(
    "address", ["2001:db8::1", "0.0.0.0", "224.0.0.1", "127.0.0.1", "255.255.255.255", "192.0.2.1"]
)
async def test_an_invalid_peer_is_left_out_reported_and_stops_no_other(
    tmp_path: Path, address: str
) -> None:
    dataplane = Brittle()
    async with running(dataplane, Told(), tmp_path / "o") as overlays:
        good = peer("192.0.2.2")
        await overlays.assign(everything(overlay(NET, peer(address, 3), good), overlay(OTHER)))
        await overlays.attach(TaskId("a"), [NET])
        await overlays.attach(TaskId("b"), [OTHER])
        assert {entry.vtep for entry in dataplane.overlay.kernel.fdb} == {"192.0.2.2"}
        (fault,) = overlays.faults
        assert (fault.network_id, fault.blocks, fault.whole) == (NET, False, False)
        assert f"peer 3 at '{address}'" in fault.reason
        await overlays.assign(everything(overlay(NET, good)))
        assert overlays.faults == ()


async def test_a_network_that_makes_no_sense_stops_no_other(tmp_path: Path) -> None:
    async with running(Brittle(), Told(), tmp_path / "o") as overlays:
        odd = msgspec.structs.replace(overlay(NET), subnet="fd00::/64")
        wrong = msgspec.structs.replace(endpoint("no address"), network_id=OTHER)
        await overlays.assign(everything(odd, overlay(OTHER), endpoints=(wrong,)))
        await overlays.attach(TaskId("b"), [OTHER])
        with pytest.raises(NetworkFailed, match="network 'net' is not valid"):
            await overlays.attach(TaskId("a"), [NET])
        assert {fault.network_id for fault in overlays.faults} == {NET, OTHER}


async def test_a_network_that_the_kernel_refuses_rejects_its_tasks_and_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REPAIR_PERIOD_S", 0.01)
    dataplane, told = Brittle(), Told()
    dataplane.overlay.lacks = {Capability.IPV6: "this host's kernel has no IPv6"}
    async with running(dataplane, told, tmp_path / "o") as overlays:
        dual = msgspec.structs.replace(overlay(NET), subnet6="fd00::/112")
        await overlays.assign(everything(dual, overlay(OTHER)))
        await told.until(1)
        await overlays.attach(TaskId("b"), [OTHER])
        with pytest.raises(NetworkFailed, match="kernel has no IPv6"):
            await overlays.attach(TaskId("a"), [NET])
        (fault,) = overlays.faults
        assert (fault.network_id, fault.blocks, fault.whole) == (NET, True, True)


async def test_a_host_whose_network_cannot_be_changed_says_so_and_rejects_tasks_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.001)
    monkeypatch.setattr(module, "NETWORK_WAIT_MAX", 20 * MILLISECOND)
    dataplane = Brittle()
    dataplane.why = "nft is not installed"
    async with running(dataplane, Told(), tmp_path / "o") as overlays:
        await overlays.assign(everything(overlay(NET)))
        with pytest.raises(NetworkFailed, match=r"networks \(net\) not ready .* nft is not"):
            await overlays.attach(TaskId("a"), [NET])
        for _ in range(FAULT_AFTER + 1):
            await dataplane.failures.acquire()
        (fault,) = overlays.faults
        assert (fault.network_id, fault.reason) == ("", "nft is not installed")
        dataplane.why = ""
        monkeypatch.setattr(module, "NETWORK_WAIT_MAX", NETWORK_WAIT_MAX)
        await overlays.attach(TaskId("a"), [NET])
        assert overlays.faults == ()


class Counting(FakeDataplane):
    """Records the arguments of each call."""

    def __init__(self) -> None:
        super().__init__(Fabric(), Underlay(address="192.0.2.1"))
        self.syncs = 0
        self.updates: list[Mapping[EndpointKey, DesiredEndpoint | None]] = []

    async def sync(
        self,
        overlays: Sequence[DesiredOverlay],
        endpoints: Sequence[DesiredEndpoint] = (),
        published: Sequence[Published] = (),
        *,
        control: ControlPlane = NO_CONTROL_PLANE,
    ) -> tuple[Fault, ...]:
        self.syncs += 1
        return await super().sync(overlays, endpoints, published, control=control)

    async def update(
        self, changed: Mapping[EndpointKey, DesiredEndpoint | None]
    ) -> tuple[Fault, ...]:
        self.updates.append(changed)
        return await super().update(changed)


def service(number: int, *backends: str, digest: int = 0) -> DesiredEndpoint:
    return DesiredEndpoint(
        service_id=ServiceId(f"s{number}"),
        service_name=f"s{number}",
        network_id=NET,
        vip=f"10.1.{200 + number // 250}.{number % 250 + 1}",
        backends=tuple(Backend(TaskId(a), slot, a) for slot, a in enumerate(backends, 1)),
        digest=digest or number,
    )


async def test_a_changed_endpoint_costs_its_own_work_whatever_else_there_is(tmp_path: Path) -> None:
    dataplane, told, path = Counting(), Told(), tmp_path / "overlays.json"
    async with running(dataplane, told, path) as overlays:
        many = tuple(service(number, "10.1.0.5") for number in range(1000))
        await overlays.assign(everything(overlay(NET), endpoints=many))
        await told.until(1)
        files = {file.name: file.stat().st_ino for file in tmp_path.iterdir()}
        syncs, written = dataplane.syncs, overlays._files.written
        changed = service(7, "10.1.0.5", "10.1.0.6", digest=70_000)
        await overlays.assign(assigned(2, changed))
        await told.until(2)
        assert dataplane.syncs == syncs
        assert dataplane.updates == [{changed.key: changed}]
        assert overlays._files.written == written + 1
        after = {file.name: file.stat().st_ino for file in tmp_path.iterdir()}
        assert {name for name in after if after[name] != files.get(name)} == {"overlays.net.s7"}
        assert told.digests[-1] == told.digests[-2] ^ 7 ^ 70_000
        # An unchanged endpoint writes nothing; a removal deletes one file.
        await overlays.assign(assigned(3, changed))
        await told.until(3)
        gone = msgspec.structs.replace(assigned(4), removed_endpoints=(changed.key,))
        await overlays.assign(gone)
        await told.until(4)
        assert dataplane.updates[1:] == [{changed.key: None}]
        assert not (tmp_path / "overlays.net.s7").exists()
        assert len(dataplane.endpoints) == 999
    again = Counting()
    async with running(again, Told(), path) as overlays:
        await overlays.settled()
        await asyncio.sleep(0)
        await overlays.settled()
        assert again.endpoints == dataplane.endpoints


async def test_endpoints_that_an_earlier_agent_kept_in_one_file_are_taken_over(
    tmp_path: Path,
) -> None:
    path = tmp_path / "overlays.json"
    kept = SavedPlan((overlay(NET),), (service(1, "10.1.0.5"), service(2)))
    path.write_bytes(msgspec.json.encode(kept))
    (tmp_path / "overlays.net.broken").write_bytes(b"{")
    for _ in range(2):
        dataplane = Counting()
        async with running(dataplane, Told(), path) as overlays:
            await asyncio.sleep(0)  # it begins
            await overlays.attach(TaskId("a"), [NET])
            assert list(dataplane.endpoints.values()) == list(kept.endpoints)
            await overlays.detach(TaskId("a"))


async def test_an_update_that_fails_is_made_good_by_looking_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.001)
    dataplane, told = Counting(), Told()

    async def refuse(changed: Mapping[EndpointKey, DesiredEndpoint | None]) -> tuple[Fault, ...]:
        raise NetworkFailed("not now")

    async with running(dataplane, told, tmp_path / "o") as overlays:
        await overlays.assign(everything(overlay(NET), endpoints=(service(1),)))
        await told.until(1)
        monkeypatch.setattr(dataplane, "update", refuse)
        await overlays.assign(assigned(2, service(2)))
        await told.until(2)
        assert len(dataplane.endpoints) == 2


async def test_the_files_with_keys_of_encrypted_networks_are_for_their_owner_alone(
    tmp_path: Path,
) -> None:
    key = EncryptionKey(number=1, secret=b"hidden")
    closed = DesiredOverlay(
        network_id=NetworkId("net"), name="net", subnet="10.0.0.0/16", vni=4097, node_number=1,
        local_blocks=("10.0.1.0/24",), encrypted=True, encryption_keys=(key,),
    )  # fmt: skip
    path = tmp_path / "overlays.json"
    path.with_suffix(".new").write_text("left by a crash")
    path.write_text("{}")
    files = NetworkFiles(path)
    files.save(SavedPlan((closed,)))
    assert NetworkFiles(path).load().overlays == (closed,), "networks come back without a leader"
    assert [one.stat().st_mode & 0o777 for one in tmp_path.iterdir()] == [0o600]


async def test_a_task_has_the_address_that_was_chosen_and_no_other_can(tmp_path: Path) -> None:
    dataplane = FakeDataplane(Fabric(), Underlay(address="192.0.2.1"))
    async with running(dataplane, Told(), tmp_path / "o") as overlays:
        await overlays.assign(Assignment(True, 1, (), (), (overlay(NET), overlay(OTHER)), (), ()))
        chosen = Interfaces(addresses={NET: "10.1.0.9"})
        attached = await overlays.attach(TaskId("a"), [OTHER, NET], interfaces=chosen)
        assert [one.address for one in attached.addresses] == ["10.2.0.2", "10.1.0.9"]
        again = await overlays.attach(TaskId("a"), [OTHER, NET], interfaces=chosen)
        assert again == attached
        with pytest.raises(
            NetworkFailed, match=r"network net: address 10\.1\.0\.9 is that of task a"
        ):
            await overlays.attach(TaskId("b"), [OTHER, NET], interfaces=chosen)
        other = Interfaces(addresses={NET: "10.1.9.9"})
        with pytest.raises(NetworkFailed, match=r"10\.1\.9\.9 is in none of this node's blocks"):
            await overlays.attach(TaskId("b"), [NET], interfaces=other)
        b = await overlays.attach(TaskId("b"), [OTHER])
        assert [one.address for one in b.addresses] == ["10.2.0.4"], "what it got was released"


async def test_a_chosen_address_is_waited_for_while_the_former_task_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataplane = FakeDataplane(Fabric(), Underlay(address="192.0.2.1"))
    async with running(dataplane, Told(), tmp_path / "o") as overlays:
        await overlays.assign(Assignment(True, 1, (), (), (overlay(NET),), (), ()))
        chosen = Interfaces(addresses={NET: "10.1.0.9"})
        await overlays.attach(TaskId("old"), [NET], interfaces=chosen)
        await overlays.released(TaskId("old"), chosen.addresses)
        free = asyncio.create_task(overlays.released(TaskId("new"), chosen.addresses))
        await asyncio.sleep(0)
        assert not free.done()
        await overlays.detach(TaskId("old"))
        await free
        attached = await overlays.attach(TaskId("new"), [NET], interfaces=chosen)
        assert [one.address for one in attached.addresses] == ["10.1.0.9"]
        monkeypatch.setattr("agent.overlays.overlays.ADDRESS_WAIT_S", 0.0)
        await overlays.released(TaskId("other"), chosen.addresses)
