"""A removed node and the copies of volumes that went with it, whatever ends in between."""

import pytest
from msgspec.structs import replace

from controller.api.changes.nodes import remove_node
from controller.identity import audit
from controller.leader.persistence import packing, saving
from controller.leader.persistence.unsaved import Unsaved
from controller.store.base import MAX_TXN_OPS, Outcome, Txn
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.kinds import NODE, SERVICE, VOLUME
from pyswarm_core.objects import Version
from pyswarm_core.states import NodeState
from pyswarm_core.volumes.volume import VolumeId, VolumePlacement, VolumeSpec
from tests.fixtures import build
from tests.unit.controller.leader.test_saving import KEYS, Rig, is_with, records


@pytest.fixture
def rig() -> Rig:
    return Rig()


GONE = KEYS.object(NODE, NodeId("n1"))


async def removed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, count: int
) -> tuple[list[bytes], list[Txn]]:
    """Remove a node with copies of so many volumes, the last of which is being removed; the
    volumes' keys and the transactions that stored it.
    """
    anywhere = [
        replace(
            build.volume(f"v{number}", "n1", "n2"),
            spec=VolumeSpec(name=f"v{number}", placement=VolumePlacement.ANY),
        )
        for number in range(count - 1)
    ]
    going = replace(build.volume("going", "n1"), removing=True)
    node = build.node("n1", state=NodeState.DOWN)
    saver = await rig.start()
    await saver.save(rig.state, rig.write(Writes(objects=(node, *anywhere, going))))
    writes, _ = remove_node(rig.state, "n1", force=True)
    target = audit.target_of(rig.state, writes)
    assert target is not None
    assert target.name == "node/n1"
    unsaved = Unsaved()
    unsaved.add(writes, rig.state.apply(writes))
    unsaved.add_records(target.name, records(1), audit.names_beside(writes))
    txns: list[Txn] = []
    commit = rig.store.commit

    async def seen(txn: Txn) -> Outcome:
        txns.append(txn)
        return await commit(txn)

    monkeypatch.setattr(rig.store, "commit", seen)
    assert await saver.save(rig.state, unsaved) == {}
    loaded = (await rig.load()).state
    assert {one.copies for one in loaded.of(VOLUME).values()} <= {("n2",)}
    assert (len(loaded.of(VOLUME)), len(loaded.nodes)) == (count - 1, 0)
    return [KEYS.object(VOLUME, VolumeId(one.id)) for one in (*anywhere, going)], txns


@pytest.mark.parametrize("count", [2, 60])
async def test_copies_go_in_the_transaction_that_deletes_their_node(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(saving, "TXN_PUTS", count + 3)  # the node, its record and the cluster
    monkeypatch.setattr(packing, "TXN_PUTS", count + 3)
    volumes, txns = await removed(rig, monkeypatch, count)
    (txn,) = txns
    assert all(is_with(txn, key, 1) for key in (GONE, *volumes))


async def test_more_copies_than_a_transaction_takes_go_before_their_node(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader that dies in between leaves the node, so the removal can be repeated."""
    volumes, txns = await removed(rig, monkeypatch, 2 * MAX_TXN_OPS)
    assert all(len(txn.puts) + len(txn.deletes) <= MAX_TXN_OPS for txn in txns)
    assert is_with(txns[-1], GONE, 1)
    assert all(any(is_with(txn, key) for txn in txns[:-1]) for key in volumes)


async def test_many_copies_take_transactions_of_the_usual_size(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "TXN_PUTS", 4)
    monkeypatch.setattr(packing, "TXN_PUTS", 4)
    _, txns = await removed(rig, monkeypatch, 20)
    assert max(len(txn.puts) + len(txn.deletes) for txn in txns) <= 4


@pytest.mark.parametrize("last_is_gone", [True, False])
async def test_services_removed_in_one_change_are_stored_in_one_transaction(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, last_is_gone: bool
) -> None:
    """Whether or not the last of them is gone by then, which the audit record is about."""
    services = [build.service(name) for name in ("db", "api", "web")]
    saver = await rig.start()
    await saver.save(rig.state, rig.write(Writes(objects=tuple(services))))
    removing = tuple(replace(one, removing=True) for one in services)
    writes = Writes(objects=removing)
    target = audit.target_of(rig.state, writes)
    assert target is not None
    assert target.name == "service/web"
    unsaved = Unsaved()
    unsaved.add(writes, rig.state.apply(writes))
    unsaved.add_records(target.name, records(1), audit.names_beside(writes))
    if last_is_gone:
        gone = Writes(removed=(SERVICE.object_name(ServiceId("web")),))
        unsaved.add(gone, rig.state.apply(gone))
    txns: list[Txn] = []
    commit = rig.store.commit

    async def seen(txn: Txn) -> Outcome:
        txns.append(txn)
        return await commit(txn)

    monkeypatch.setattr(rig.store, "commit", seen)
    monkeypatch.setattr(saving, "TXN_PUTS", 4)
    monkeypatch.setattr(packing, "TXN_PUTS", 4)
    assert await saver.save(rig.state, unsaved) == {}
    own = [KEYS.object(SERVICE, one.id) for one in services]
    about = [txn for txn in txns if any(is_with(txn, key) for key in own)]
    assert len(about) == 1, "with the record, which is stored once"
    assert all(is_with(about[0], key) for key in own)


@pytest.mark.parametrize("first", ["db", "api", "web"])
async def test_services_changed_in_one_change_are_stored_in_one_transaction(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """Also if one of them, which may be the last, was changed before in the same turn."""
    services = {name: build.service(name) for name in ("db", "api", "web")}
    saver = await rig.start()
    await saver.save(rig.state, rig.write(Writes(objects=tuple(services.values()))))
    unsaved = rig.write(Writes(objects=(replace(services[first], version=Version(index=2)),)))
    unsaved.add_records(f"service/{first}", records(1))
    third = tuple(replace(one, version=Version(index=3)) for one in services.values())
    unsaved.add(Writes(objects=third), rig.state.apply(Writes(objects=third)))
    unsaved.add_records("service/web", records(2), ("service/db", "service/api"))
    txns: list[Txn] = []
    commit = rig.store.commit

    async def seen(txn: Txn) -> Outcome:
        txns.append(txn)
        return await commit(txn)

    monkeypatch.setattr(rig.store, "commit", seen)
    monkeypatch.setattr(saving, "TXN_PUTS", 2)
    monkeypatch.setattr(packing, "TXN_PUTS", 2)
    assert await saver.save(rig.state, unsaved) == {}
    keys = [KEYS.object(SERVICE, one.id) for one in services.values()]
    (txn,) = [one for one in txns if any(is_with(one, key) for key in keys)]
    assert all(is_with(txn, key) for key in keys)


def test_changes_that_share_an_object_have_no_transaction_together() -> None:
    """Each could be larger than its own then: the second waits until the first is stored."""
    unsaved = Unsaved()
    unsaved.add_records("service/web", records(1), ("service/db", "service/api"))
    assert unsaved.has_room("service/db", ())
    assert unsaved.has_room("service/web", ("service/db", "service/cache"))
    assert not unsaved.has_room("service/db", ("service/cache",))
    assert not unsaved.has_room("service/cache", ("service/db",))
    assert not unsaved.has_room("service/cache", ("service/web",))
    assert Unsaved().has_room("service/cache", ("service/web",))
    unsaved.take(0)
    assert unsaved.has_room("service/cache", ("service/web",))


async def test_nothing_is_lost_if_what_was_written_along_was_the_head_of_another(rig: Rig) -> None:
    services = [build.service(name) for name in ("db", "api", "web")]
    saver = await rig.start()
    unsaved = rig.write(Writes(objects=tuple(services)))
    unsaved.add_records("service/api", records(1), ("service/db",))
    unsaved.add_records("service/web", records(2), ("service/api",))
    unsaved.add_records("service/web", records(3), ("service/web",))
    assert await saver.save(rig.state, unsaved) == {}
    loaded = await rig.load()
    assert (len(loaded.state.services), len(loaded.records)) == (3, 3)
