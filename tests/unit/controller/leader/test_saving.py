"""What was decided reaches the store, whole and fenced, whatever the store does meanwhile."""

from itertools import chain

import pytest
from msgspec.structs import replace

from controller.brain.orchestrator.quarantine import Failure, Stage
from controller.leader.audit.log import Entry
from controller.leader.election import Term
from controller.leader.events.made import quarantine_event
from controller.leader.persistence import packing, saving
from controller.leader.persistence.loading import Loaded, load
from controller.leader.persistence.saving import Deposed, Saver
from controller.leader.persistence.unsaved import Unsaved
from controller.store.base import (
    Committed,
    Compare,
    Outcome,
    Put,
    StoreAmbiguous,
    StoreError,
    Txn,
)
from controller.store.memory import MemoryKv
from controller.store.memory_store import MemoryStore
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.identity.audit import AuditClass
from pyswarm_core.identity.limits import AUDITS_PER_OBJECT
from pyswarm_core.ids import ServiceId, TaskId
from pyswarm_core.keys import ChunkKey, Keys, chunk_of
from pyswarm_core.kinds import NETWORK, SERVICE, kind_of
from pyswarm_core.objects import NO_DETAIL, Cluster, Service, Task, TaskDetail
from pyswarm_core.state import State
from pyswarm_core.states import NodeState, TaskState
from tests.fixtures import build
from tests.fixtures.desk import StoppedClock
from tests.fixtures.envelopes import counted_nonces

KEYS = Keys()
LEADER = b"me"
LOADED_AT = Instant(build.NOW + 5)


class Rig:
    """A store, a term, and a state to save."""

    def __init__(self) -> None:
        self.kv = MemoryKv()
        self.store = MemoryStore(self.kv, StoppedClock())
        self.errors: list[StoreError] = []
        self.sleeps = 0
        self.to_lose = 0
        self.state = State(Cluster(id="cluster"))
        self.envelope = counted_nonces()

    async def start(self) -> Saver:
        lease = await self.store.grant_lease(2)
        won = await self.store.commit(Txn((), (Put(KEYS.leader, LEADER, lease.id),)))
        term = Term(lease.id, 2, won.revision, won.revision, Instant(0))
        return Saver(
            self.store,
            KEYS,
            term,
            LEADER,
            envelope=self.envelope,
            on_error=self.errors.append,
            sleep=self._sleep,
        )

    def write(self, writes: Writes) -> Unsaved:
        unsaved = Unsaved()
        unsaved.add(writes, self.state.apply(writes))
        return unsaved

    async def load(self) -> Loaded:
        return await load(self.store, KEYS, self.envelope, lambda: Cluster(id="fresh"), LOADED_AT)

    async def _sleep(self, seconds: float) -> None:
        self.sleeps += 1
        assert self.sleeps < 200, "retries without end"
        self.store.set_away(False)
        self.to_lose -= 1
        self.store.set_replies_lost(self.to_lose > 0)

    def lose_replies(self, count: int) -> None:
        """The next `count` commits happen, or not, unheard of."""
        self.to_lose = count
        self.store.set_replies_lost(True)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def service(name: str) -> Service:
    plain = build.service(name)
    return Service(id=ServiceId(name.ljust(25, "0")), spec=plain.spec)


def tasks(of: Service, count: int, *, first: int = 1) -> list[Task]:
    ids = build.Numbered(first * 1000)
    return [
        Task(
            TaskId(ids.draw(1)[0]),
            of.id,
            slot,
            1,
            build.NOW,
            node_id=build.node("n1").id,
            state=TaskState.RUNNING,
            detail=TaskDetail(message="up") if slot == 7 else NO_DETAIL,
        )
        for slot in range(first, first + count)
    ]


def everything(count: int) -> Writes:
    web = service("app")
    return Writes(
        cluster=Cluster(id="cluster", next_node_number=3),
        objects=(*build.nodes(2), build.network("net"), web),
        tasks=tasks(web, count),
    )


async def test_what_was_saved_is_loaded_again(rig: Rig) -> None:
    saver = await rig.start()
    await saver.save(rig.state, rig.write(everything(300)))
    loaded = await rig.load()
    assert loaded.state.tasks == rig.state.tasks
    assert loaded.state.services == rig.state.services
    assert loaded.state.networks == rig.state.networks
    assert loaded.state.cluster == rig.state.cluster
    assert not loaded.unsaved


async def test_ready_nodes_come_back_unknown(rig: Rig) -> None:
    saver = await rig.start()
    down = build.node("n2", state=NodeState.DOWN)
    await saver.save(rig.state, rig.write(Writes(objects=(build.node("n1"), down))))
    loaded = await rig.load()
    states = [node.status.state for node in loaded.state.nodes.values()]
    assert states == [NodeState.UNKNOWN, NodeState.DOWN]
    since = [node.status.since for node in loaded.state.nodes.values()]
    assert since == [LOADED_AT, build.NOW]


async def test_a_node_stored_without_the_time_of_its_state_gets_that_of_its_last_write(
    rig: Rig,
) -> None:
    saver = await rig.start()
    await saver.save(
        rig.state, rig.write(Writes(objects=(build.node("n1", state=NodeState.DOWN, since=0),)))
    )
    (node,) = (await rig.load()).state.nodes.values()
    assert node.status.since == node.updated_at == build.NOW


async def test_an_empty_store_gets_its_first_cluster(rig: Rig) -> None:
    loaded = await rig.load()
    assert loaded.state.cluster.id == "fresh"
    assert loaded.unsaved.cluster


async def test_a_small_change_is_one_transaction(rig: Rig) -> None:
    saver = await rig.start()
    before = rig.kv.revision
    await saver.save(rig.state, rig.write(everything(10)))
    assert rig.kv.revision == before + 1 == saver.revision


async def test_removed_objects_leave_nothing_behind(rig: Rig) -> None:
    saver = await rig.start()
    writes = everything(300)
    await saver.save(rig.state, rig.write(writes))
    gone = rig.write(
        Writes(
            removed_tasks=[task.id for task in writes.tasks],
            removed=(*(kind_of(one).object_name(one.id) for one in writes.objects),),
        )
    )
    await saver.save(rig.state, gone)
    left = [item.key for item in (await rig.store.read(KEYS.root)).items]
    assert left == [KEYS.cluster, KEYS.leader]


def recorded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> list[list[bytes]]:
    """The keys of each transaction from now on, deletes first."""
    stored = list[list[bytes]]()
    commit = rig.store.commit

    async def committed(txn: Txn) -> Outcome:
        stored.append([*(one.key for one in txn.deletes), *(one.key for one in txn.puts)])
        return await commit(txn)

    monkeypatch.setattr(rig.store, "commit", committed)
    return stored


async def test_services_that_are_removed_are_stored_before_what_may_take_their_addresses(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver = await rig.start()
    leaving, gone = service("leaving"), service("gone")
    await saver.save(rig.state, rig.write(Writes(objects=(leaving, gone), tasks=tasks(gone, 300))))
    unsaved = rig.write(Writes(objects=(*build.nodes(200), build.network("net"), service("new"))))
    writes = Writes(
        objects=(replace(leaving, removing=True),),
        removed_tasks=[task.id for task in tasks(gone, 300)],
        removed=(SERVICE.object_name(gone.id),),
    )
    unsaved.add(writes, rig.state.apply(writes))
    stored = recorded(rig, monkeypatch)
    await saver.save(rig.state, unsaved)
    keys = [*chain(*stored)]
    chunks = {KEYS.chunk(chunk_of(gone.id, slot)) for slot in range(1, 301)}
    first = {KEYS.object(SERVICE, leaving.id), *chunks}
    last = KEYS.object(SERVICE, gone.id)
    assert {*keys[: len(first)]} == first
    assert keys[len(first)] == last
    assert len(keys) == len(first) + 1 + 200 + 2


async def test_the_cluster_is_stored_before_the_nodes_that_it_gave_numbers(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader that dies in between would leave nodes whose numbers its successor gives again."""
    saver = await rig.start()
    counted = replace(rig.state.cluster, next_node_number=201)
    unsaved = rig.write(Writes(cluster=counted, objects=(*build.nodes(200),)))
    stored = recorded(rig, monkeypatch)
    await saver.save(rig.state, unsaved)
    assert [txn for txn in stored if KEYS.cluster in txn] == [[KEYS.cluster]] == stored[:1]


async def test_chunks_of_a_service_that_is_gone_are_dropped(rig: Rig) -> None:
    saver = await rig.start()
    await saver.save(rig.state, rig.write(everything(1)))
    stray = KEYS.chunk(ChunkKey(ServiceId("0" * 25), 0))
    await rig.store.commit(Txn((), (Put(stray, b""),)))
    loaded = await rig.load()
    assert list(loaded.unsaved.chunks) == [ChunkKey(ServiceId("0" * 25), 0)]
    await saver.save(loaded.state, loaded.unsaved)
    assert await rig.store.get(stray) is None


async def test_a_deposed_leader_writes_nothing(rig: Rig) -> None:
    saver = await rig.start()
    await rig.store.commit(Txn((), (), ()))
    found = await rig.store.get(KEYS.leader)
    assert found is not None
    await rig.store.revoke_lease(found.lease)
    await rig.store.commit(Txn((Compare.absent(KEYS.leader),), (Put(KEYS.leader, b"other"),)))
    with pytest.raises(Deposed):
        await saver.save(rig.state, rig.write(everything(500)))
    assert not (await rig.store.read(KEYS.chunks)).items


async def test_an_absent_store_is_waited_for(rig: Rig) -> None:
    saver = await rig.start()
    rig.store.set_away(True)
    await saver.save(rig.state, rig.write(everything(3)))
    assert rig.errors
    assert (await rig.load()).state.tasks == rig.state.tasks


async def test_a_lost_reply_moves_the_fence_so_that_nothing_late_can_arrive(rig: Rig) -> None:
    saver = await rig.start()
    late = _Late(rig.store)
    rig.store.commit = late.commit  # type: ignore[method-assign]
    await saver.save(rig.state, rig.write(everything(3)))
    await saver.save(rig.state, rig.write(Writes(cluster=Cluster(id="newer"))))
    assert late.kept is not None
    outcome = await MemoryStore.commit(rig.store, late.kept)
    assert not isinstance(outcome, Committed)
    assert (await rig.load()).state.cluster.id == "newer"


class _Late:
    """Holds the first transaction back and says nothing of it."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.kept: Txn | None = None

    async def commit(self, txn: Txn) -> Outcome:
        if self.kept is None:
            self.kept = txn
            raise StoreAmbiguous("the connection was cut")
        return await MemoryStore.commit(self._store, txn)


async def test_replies_lost_at_every_point_lose_nothing(rig: Rig) -> None:
    saver = await rig.start()
    for lost in range(1, 12):
        rig.lose_replies(lost)
        more = tasks(service("app"), 200, first=1 + 200 * lost)
        await saver.save(rig.state, rig.write(everything(1)))
        await saver.save(rig.state, rig.write(Writes(tasks=more)))
        assert (await rig.load()).state.tasks == rig.state.tasks


async def test_transactions_stay_within_the_stores_limits(rig: Rig) -> None:
    saver = await rig.start()
    web = service("app")
    text = "x" * 500
    long = [
        replace(task, detail=TaskDetail(message=text, error=text)) for task in tasks(web, 20_000)
    ]
    await saver.save(rig.state, rig.write(Writes(objects=(web,), tasks=long)))
    loaded = await rig.load()
    assert len(loaded.state.tasks) == 20_000


def test_what_is_being_saved_need_not_be_saved_again() -> None:
    behind, now = Unsaved(), Unsaved()
    keys = [ChunkKey(ServiceId("a"), block) for block in range(3)]
    behind.chunks.update(dict.fromkeys(keys))
    now.chunks[keys[1]] = None
    behind.drop(now)
    assert list(behind.chunks) == [keys[0], keys[2]]


def test_a_flush_takes_a_bounded_number_of_chunks_and_all_else() -> None:
    behind = Unsaved()
    behind.cluster = True
    behind.chunks.update((ChunkKey(ServiceId("a"), block), None) for block in range(10))
    taken = behind.take(4)
    assert (taken.cluster, len(taken.chunks), len(behind)) == (True, 4, 6)


def records(*sequences: int) -> list[Entry]:
    return [Entry(AuditClass.CHANGE, n, b"record %d" % n) for n in sequences]


def is_with(txn: Txn, key: bytes, *sequences: int) -> bool:
    """Whether the transaction has the key and these records."""
    keys = {put.key for put in txn.puts} | {delete.key for delete in txn.deletes}
    return {key, *(KEYS.audit(AuditClass.CHANGE, n) for n in sequences)} <= keys


@pytest.mark.parametrize("count", [1, 200])
async def test_a_record_is_in_the_transaction_of_its_object(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """However many objects are saved, and whichever was removed meanwhile."""
    monkeypatch.setattr(saving, "TXN_PUTS", 4)
    monkeypatch.setattr(packing, "TXN_PUTS", 4)
    saver = await rig.start()
    services = [service(f"app{n:03d}") for n in range(count)]
    unsaved = rig.write(Writes(objects=tuple(services)))
    for n, one in enumerate(services):
        unsaved.add_records(SERVICE.object_name(one.id), records(n))
    gone = SERVICE.object_name(services[0].id)
    unsaved.add(Writes(), rig.state.apply(Writes(removed=(gone,))))
    txns: list[Txn] = []
    commit = rig.store.commit

    async def seen(txn: Txn) -> Outcome:
        txns.append(txn)
        return await commit(txn)

    monkeypatch.setattr(rig.store, "commit", seen)
    assert await saver.save(rig.state, unsaved) == {}
    for n, one in enumerate(services):
        key = KEYS.object(SERVICE, one.id)
        assert sum(is_with(txn, key, n) for txn in txns) == 1
    assert len((await rig.load()).records) == count


@pytest.mark.parametrize("removing", [False, True])
async def test_what_a_change_writes_along_is_in_its_transaction(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, removing: bool
) -> None:
    """Also if the service was removed in the same turn, and is stored before all else."""
    monkeypatch.setattr(saving, "TXN_PUTS", 1)
    monkeypatch.setattr(packing, "TXN_PUTS", 1)
    saver = await rig.start()
    mesh, web = build.network("ingress"), replace(service("web"), removing=removing)
    unsaved = rig.write(Writes(objects=(mesh, web)))
    beside = NETWORK.object_name(mesh.id)
    unsaved.add_records(SERVICE.object_name(web.id), records(1), (beside,))
    await saver.save(rig.state, unsaved)
    found = await rig.store.get(KEYS.object(NETWORK, mesh.id))
    with_it = await rig.store.get(KEYS.object(SERVICE, web.id))
    record = await rig.store.get(KEYS.audit(AuditClass.CHANGE, 1))
    assert found is not None
    assert with_it is not None
    assert record is not None
    assert found.mod_revision == with_it.mod_revision == record.mod_revision


async def test_records_of_tasks_are_stored_with_the_chunks_of_a_service_that_is_gone(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "TXN_PUTS", 1)
    monkeypatch.setattr(packing, "TXN_PUTS", 1)
    saver = await rig.start()
    gone = service("gone")
    unsaved = rig.write(Writes(objects=(gone,), tasks=tasks(gone, 2)))
    (key,) = unsaved.chunks
    unsaved.add_records(f"chunk/{key.service_id}/{key.block:08d}", records(1))
    unsaved.add_records(SERVICE.object_name(gone.id), records(2))
    removed = [task.id for task in tasks(gone, 2)]
    writes = Writes(removed_tasks=removed, removed=(SERVICE.object_name(gone.id),))
    unsaved.add(writes, rig.state.apply(writes))
    await saver.save(rig.state, unsaved)
    assert len((await rig.load()).records) == 2


async def test_old_records_are_deleted_and_those_of_refused_requests_stored(rig: Rig) -> None:
    saver = await rig.start()
    unsaved = Unsaved()
    unsaved.add_records("", records(1, 2))
    assert len(unsaved) == 2
    await saver.save(rig.state, unsaved)
    later = Unsaved()
    later.add_records("", [*records(3), Entry(AuditClass.CHANGE, 1, None)])
    await saver.save(rig.state, later.take(1))
    assert len(later) == 0
    assert [entry.sequence for entry in (await rig.load()).records] == [2, 3]


async def test_the_record_of_an_object_that_cannot_be_stored_is_stored(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change is in effect as long as the term lasts."""
    monkeypatch.setattr(saving, "VALUE_BYTES_MAX", 10)
    saver = await rig.start()
    web = service("web")
    unsaved = rig.write(Writes(objects=(web,)))
    unsaved.add_records(SERVICE.object_name(web.id), records(1))
    assert list(await saver.save(rig.state, unsaved)) == [SERVICE.object_name(web.id)]
    assert [entry.sequence for entry in (await rig.load()).records] == [1]


async def test_a_page_of_events_that_cannot_be_made_costs_itself(rig: Rig) -> None:
    def broken() -> bytes:
        raise ValueError("garbage")

    saver = await rig.start()
    web = service("web")
    unsaved = rig.write(Writes(objects=(web,)))
    unsaved.add_page(1, lambda: b"older")
    await saver.save(rig.state, unsaved)
    unsaved = Unsaved()
    for number, make in enumerate((lambda: b"newer", broken, lambda: b"newest")):
        unsaved.add_page(number, make)
    failed = await saver.save(rig.state, unsaved)
    (name,) = failed
    assert name == KEYS.name_of(KEYS.event_page(1))
    assert name in unsaved.names()
    assert "garbage" in failed[name]
    stored = [await rig.store.get(KEYS.event_page(number)) for number in range(3)]
    assert [one.value for one in stored if one] == [b"newer", b"older", b"newest"]
    unsaved = Unsaved()
    unsaved.add_page(1, lambda: None)
    assert not await saver.save(rig.state, unsaved)
    assert await rig.store.get(KEYS.event_page(1)) is None
    told = quarantine_event(rig.state, Failure(Stage.SAVE, name, "garbage"))
    assert (told.type, told.action, told.id) == ("event", "quarantine", "000000000001")


def test_another_record_of_an_object_waits_if_its_transaction_is_full() -> None:
    unsaved = Unsaved()
    unsaved.add_records("service/web", records(*range(AUDITS_PER_OBJECT - 1)))
    assert unsaved.has_room("service/web")
    unsaved.add_records("service/web", records(99))
    assert not unsaved.has_room("service/web")
    assert unsaved.has_room("service/app")
    assert AUDITS_PER_OBJECT == 16
