"""An object that cannot be stored or read costs itself alone, and can be removed."""

import pytest
from msgspec.structs import replace

from controller.api.changes.networks import remove_network
from controller.api.changes.nodes import remove_node
from controller.api.changes.services import remove_service
from controller.api.queries.lists import find_all
from controller.api.queries.views import listed_service
from controller.api.queries.why import explain
from controller.brain.orchestrator.quarantine import Quarantine, Stage
from controller.brain.slices import finish
from controller.leader.persistence.loading import Loaded
from controller.leader.persistence.unsaved import Unsaved
from controller.store.base import Outcome, Put, StoreMisuse, StoreTooLarge, Txn, txn_size
from controller.store.memory_store import MemoryStore
from pyswarm_core.decision import Writes
from pyswarm_core.errors import NotFound
from pyswarm_core.ids import NetworkId, NodeId
from pyswarm_core.keys import ChunkKey
from pyswarm_core.kinds import NETWORK, NODE, SERVICE
from pyswarm_core.limits import TXN_BYTES_MAX, VALUE_BYTES_MAX
from pyswarm_core.objects import NO_DETAIL, Service, VirtualIp
from pyswarm_core.state import State
from tests.fixtures import build
from tests.unit.controller.leader.test_saving import KEYS, Rig, everything, service


class Watched(MemoryStore):
    """Remembers transactions' sizes; refuses those that are larger than it takes."""

    def __init__(self, rig: Rig, takes: int = 1 << 30) -> None:
        super().__init__(rig.kv, rig.store._clock)
        self.sizes: list[int] = []
        self._takes = takes

    async def commit(self, txn: Txn) -> Outcome:
        self.sizes.append(txn_size(txn))
        if self.sizes[-1] > self._takes:
            raise StoreTooLarge("etcdserver: request is too large")
        return await super().commit(txn)


def _large(name: str, size: int) -> Service:
    plain = service(name)
    return replace(plain, spec=replace(plain.spec, labels={"k": "v" * size}))


async def _stored(rig: Rig) -> State:
    return (await rig.load()).state


@pytest.mark.parametrize("size", [900_000, 600_000, 300_000, 20_000, 18_742])
async def test_no_transaction_has_more_bytes_than_it_may(size: int) -> None:
    rig = Rig()
    rig.store = watched = Watched(rig)
    saver = await rig.start()
    services = tuple(_large(f"s{number}", size) for number in range(70))
    assert not await saver.save(rig.state, rig.write(Writes(objects=services[:20])))
    assert not await saver.save(rig.state, rig.write(Writes(objects=services)))
    assert max(watched.sizes) <= TXN_BYTES_MAX
    assert (await _stored(rig)).services == rig.state.services


async def test_an_object_that_is_too_large_keeps_its_last_version_and_the_rest_is_saved() -> None:
    rig = Rig()
    saver = await rig.start()
    await saver.save(rig.state, rig.write(everything(10)))
    app, other = service("app"), service("other")
    poison = replace(app, spec=_large("app", VALUE_BYTES_MAX).spec)
    failed = await saver.save(rig.state, rig.write(Writes(objects=(poison, other))))
    assert failed.keys() == {f"service/{app.id}"}
    assert "at most 1048576 fit" in failed[f"service/{app.id}"]
    assert (await _stored(rig)).services == {app.id: app, other.id: other}
    again = replace(app, updated_at=build.NOW)
    assert not await saver.save(rig.state, rig.write(Writes(objects=(again,))))


async def test_a_task_that_cannot_be_encoded_costs_its_chunk_alone() -> None:
    rig = Rig()
    saver = await rig.start()
    app = service("app")
    await saver.save(rig.state, rig.write(everything(300)))
    poison = replace(rig.state.tasks_of_service(app.id).slots[1][0], created_at=1 << 70)
    moved = replace(rig.state.tasks_of_service(app.id).slots[200][0], detail=NO_DETAIL, restarts=1)
    failed = await saver.save(rig.state, rig.write(Writes(tasks=[poison, moved])))
    assert list(failed) == [f"chunk/{app.id}/00000000"]
    found = (await _stored(rig)).tasks
    assert found[moved.id] == moved
    assert found[poison.id].created_at == build.NOW
    quarantine = Quarantine()
    quarantine.tried(Stage.SAVE, (), failed)
    assert "the store keeps its last version" in quarantine.reasons(app.id)[0]


async def test_a_store_that_takes_less_gets_less_at_once() -> None:
    rig = Rig()
    rig.store = watched = Watched(rig, takes=100_000)
    saver = await rig.start()
    services = tuple(_large(f"s{number}", 30_000) for number in range(10))
    huge = _large("huge", 200_000)
    failed = await saver.save(rig.state, rig.write(Writes(objects=(*services, huge))))
    assert list(failed) == [f"service/{huge.id}"]
    assert (await _stored(rig)).services.keys() == {one.id for one in services}
    assert any(size > 100_000 for size in watched.sizes)


async def _with(rig: Rig, garbage: dict[bytes, bytes]) -> Loaded:
    puts = tuple(Put(key, value) for key, value in garbage.items())
    await rig.store.commit(Txn((), puts))
    return await rig.load()


APP = service("app")
GARBAGE = b"\xff\xff\xff"


async def test_what_cannot_be_read_is_left_out_and_stays_as_it_is() -> None:
    rig = Rig()
    saver = await rig.start()
    await saver.save(rig.state, rig.write(everything(300)))
    keys = [
        KEYS.object(SERVICE, APP.id),
        KEYS.object(NODE, NodeId("n1")),
        KEYS.object(NETWORK, NetworkId("net")),
    ]
    loaded = await _with(rig, dict.fromkeys(keys, GARBAGE))
    state = loaded.state
    assert state.unreadable.keys() == {f"service/{APP.id}", "node/n1", "network/net"}
    assert state.nodes.keys() == {"n2"}
    assert len(state.tasks) == 300, "its containers would be stopped"
    assert not loaded.unsaved
    after = {item.key: item.value for item in (await rig.store.read(KEYS.root)).items}
    assert [after[key] for key in keys] == [GARBAGE] * 3
    (found,) = finish(find_all(state, SERVICE, ()))
    listed = listed_service(state, found, quarantined=())
    assert listed is not None
    assert (listed.service.id, listed.service.spec.name) == (APP.id, "(unreadable)")
    (line,) = finish(explain(state, APP.id[:12], build.NOW, Quarantine()))
    assert line.startswith(f"service {APP.id} cannot be read")


async def test_what_cannot_be_read_can_be_removed() -> None:
    rig = Rig()
    saver = await rig.start()
    await saver.save(rig.state, rig.write(everything(300)))
    garbage = {
        KEYS.object(SERVICE, APP.id): GARBAGE,
        KEYS.object(NODE, NodeId("n1")): GARBAGE,
        KEYS.object(NETWORK, NetworkId("net")): GARBAGE,
    }
    state = (await _with(rig, garbage)).state
    unsaved = Unsaved()
    for writes in (
        remove_service(state, APP.id[:12], build.NOW)[0],
        remove_node(state, "n1", force=False)[0],
        remove_network(state, "net")[0],
    ):
        unsaved.add(writes, state.apply(writes))
    assert not state.unreadable
    await saver.save(state, unsaved)
    left = [item.key for item in (await rig.store.read(KEYS.root)).items]
    assert left == [KEYS.cluster, KEYS.leader, KEYS.object(NODE, NodeId("n2"))]
    with pytest.raises(NotFound):
        remove_service(state, APP.id, build.NOW)


async def test_a_chunk_that_cannot_be_read_is_put_aside() -> None:
    rig = Rig()
    saver = await rig.start()
    await saver.save(rig.state, rig.write(everything(300)))
    chunk = KEYS.chunk(ChunkKey(APP.id, 1))
    loaded = await _with(rig, {chunk: GARBAGE})
    assert list(loaded.state.unreadable) == [f"chunk/{APP.id}/00000001"]
    assert {task.slot // 128 for task in loaded.state.tasks.values()} == {0, 2}
    await saver.save(loaded.state, loaded.unsaved)
    found = await rig.store.get(KEYS.aside(chunk))
    assert found is not None
    assert found.value == GARBAGE


async def test_an_object_that_no_index_takes_is_left_out() -> None:
    rig = Rig()
    saver = await rig.start()
    nowhere = VirtualIp(network_id=NetworkId("net"), addr="nonsense")
    await saver.save(rig.state, rig.write(everything(1)))
    torn = replace(APP, endpoint=replace(APP.endpoint, virtual_ips=(nowhere,)))
    rig.state.services[APP.id] = torn
    unsaved = Unsaved()
    unsaved.objects[SERVICE.name][APP.id] = None
    await saver.save(rig.state, unsaved)
    loaded = await rig.load()
    assert list(loaded.state.unreadable) == [f"service/{APP.id}"]
    assert len(loaded.state.tasks) == 1


@pytest.mark.parametrize("torn", [{"subnet": "10.0.0.1/8"}, {"subnet6": "fd00::1/64"}])
async def test_a_network_with_a_subnet_that_is_none_is_left_out(torn: dict[str, str]) -> None:
    rig = Rig()
    saver = await rig.start()
    poison = replace(build.network("poison", "10.9.0.0/16"), **torn)
    await saver.save(rig.state, rig.write(everything(1)))
    await saver.save(rig.state, rig.write(Writes(objects=(poison,))))
    state = (await rig.load()).state
    assert list(state.unreadable) == ["network/poison"]
    assert list(state.networks) == ["net"]


async def test_nothing_is_led_without_the_cluster_s_own_object() -> None:
    rig = Rig()
    saver = await rig.start()
    await saver.save(rig.state, rig.write(everything(1)))
    with pytest.raises(StoreMisuse, match="/pyswarm/cluster cannot be read: restore it"):
        await _with(rig, {KEYS.cluster: GARBAGE})
