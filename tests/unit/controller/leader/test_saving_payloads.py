"""A new version of a secret with many followers, and a leader that dies while it is stored."""

import asyncio

import pytest

from controller.api.payloads.changes import Update, update_payload
from controller.brain.decide import decide
from controller.brain.slices import finish
from controller.identity import audit
from controller.leader.persistence.unsaved import Unsaved
from controller.store.base import Outcome, Txn
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Dirty, Writes
from pyswarm_core.kinds import SECRET, SERVICE
from pyswarm_core.limits import TXN_PUTS
from pyswarm_core.state import State
from tests.fixtures.build import NOW
from tests.unit.controller.api.test_payloads import World, secret
from tests.unit.controller.leader.test_saving import KEYS, Rig, records

FOLLOWERS = 3 * TXN_PUTS
LATER = Instant(NOW + SECOND)


class Killed(Exception):
    """The leader is gone."""


@pytest.fixture
def rig() -> Rig:
    return Rig()


def numbers(state: State) -> list[int]:
    """The version that each service names."""
    return [
        one.number
        for service in state.services.values()
        for one in service.spec.task_template.container_spec.references
    ]


async def updated(rig: Rig, world: World) -> tuple[Unsaved, bytes]:
    """What an update of a secret with followers that are stored writes, and the version's key."""
    world.create()
    for number in range(FOLLOWERS):
        world.serve(f"s{number}", secret())
    rig.state = world.state
    items = [*world.state.of(SECRET).values(), *world.state.services.values()]
    stored = Unsaved()
    stored.add(Writes(objects=(*world.state.nodes.values(), *items)), ())
    stored.cluster = True
    await (await rig.start()).save(rig.state, stored)
    update = Update("db", b"two")
    writes, made = finish(update_payload(rig.state, SECRET, update, LATER, world.ids))
    target = audit.target_of(rig.state, writes)
    assert target is not None
    unsaved = Unsaved()
    unsaved.add(writes, rig.state.apply(writes))
    unsaved.add_records(target.name, records(1), audit.names_beside(writes))
    return unsaved, KEYS.object(SECRET, made.payload.id)


@pytest.mark.parametrize("left", [0, 1, 2])
async def test_the_next_leader_finds_the_version_and_completes_the_update(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    world = World()
    unsaved, key = await updated(rig, world)
    saver = await rig.start()
    commit, txns = rig.store.commit, list[Txn]()

    async def dying(txn: Txn) -> Outcome:
        if len(txns) > left:
            raise Killed
        txns.append(txn)
        return await commit(txn)

    with monkeypatch.context() as patched:
        patched.setattr(rig.store, "commit", dying)
        with pytest.raises(Killed):
            await saver.save(rig.state, unsaved)
    assert key in [put.key for put in txns[0].puts]
    state = (await rig.load()).state
    assert (numbers(state).count(2), sorted(set(numbers(state)))[0]) == (left * TXN_PUTS, 1)
    dirty = Dirty()
    dirty.services.update(state.services)
    decision = decide(state, dirty, Instant(LATER + SECOND), world.ids)
    while True:
        state.apply(decision.writes)
        assert not decision.failed
        if not decision.again:
            break
        dirty = Dirty()
        dirty.services.update(decision.again)
        dirty.resumed.update(decision.again)
        decision = decide(state, dirty, Instant(LATER + SECOND), world.ids)
    assert numbers(state) == [2] * FOLLOWERS


async def test_no_service_is_stored_before_the_version_that_it_names(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsaved, key = await updated(rig, World())
    saver = await rig.start()
    commit, begun, may_end = rig.store.commit, list[Txn](), asyncio.Event()

    async def slow(txn: Txn) -> Outcome:
        begun.append(txn)
        await may_end.wait()
        return await commit(txn)

    monkeypatch.setattr(rig.store, "commit", slow)
    saving = asyncio.create_task(saver.save(rig.state, unsaved))
    for _ in range(100):
        await asyncio.sleep(0)
    (first,) = begun
    assert key in [put.key for put in first.puts]
    assert not [put for put in first.puts if put.key.startswith(KEYS.objects(SERVICE))]
    may_end.set()
    await saving
    assert len(begun) > 3
