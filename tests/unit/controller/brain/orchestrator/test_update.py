"""Updates: one slot at a time, derived from stored tasks, stopped by a template that fails."""

from typing import NoReturn

import pytest
from msgspec.structs import replace

from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import EventKind
from pyswarm_core.ids import ServiceId
from pyswarm_core.indexes.tasks import is_desired
from pyswarm_core.objects import PreviousSpec, Task
from pyswarm_core.states import NodeState, TaskState
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld
from tests.fixtures.build import NOW, dirty, nodes, service, task


def _world(*tasks: Task, replicas: int = 3) -> BrainWorld:
    old = service("web", replicas=replicas)
    new = service(
        "web", replicas=replicas, spec=build.template("new"), version=2, template_version=2
    )
    new = replace(new, previous_specs=(PreviousSpec(version=1, spec=old.spec),))
    return BrainWorld(build.state(nodes=nodes(3), services=[new], tasks=tasks))


def _running(slot: int, version: int, **fields: int) -> Task:
    return task(f"web.{slot}", node=f"n{slot}", version=version, **fields)  # type: ignore[arg-type]


def _stopped(world: BrainWorld) -> list[int]:
    written = world.decide(dirty("web")).writes.tasks
    return [t.slot for t in written if t.desired_state is TaskState.SHUTDOWN]


def test_first_slot_is_stopped_alone() -> None:
    assert _stopped(_world(*(_running(slot, 1) for slot in (1, 2, 3)))) == [1]


class _Unread(dict[int, tuple[Task, ...]]):
    """Slots that may be looked up one by one, and not gone through."""

    def _all(self) -> NoReturn:
        raise AssertionError("all slots were looked at")

    __iter__ = keys = values = items = _all


@pytest.mark.parametrize("updated", [0, 900])
def test_a_step_looks_at_the_slots_in_flight_and_not_at_all(updated: int) -> None:
    slots = range(1, 1001)
    tasks = [task(f"web.{n}", node="n1", version=1 + (n <= updated)) for n in slots]
    world = _world(*tasks, replicas=1000)
    world.now = Instant(NOW + 5 * SECOND)
    group = world.state.tasks_of_service(ServiceId("web"))
    group.slots = _Unread(group.slots)
    assert _stopped(world) == [updated + 1]
    assert world.decide(dirty("web")).work.cost < 10


def test_new_task_waits_until_the_old_one_has_ended() -> None:
    stopping = replace(_running(1, 1), desired_state=TaskState.SHUTDOWN)
    world = _world(stopping, _running(2, 1), _running(3, 1))
    assert not world.decide(dirty("web")).writes
    world.report("n1", stopping, TaskState.SHUTDOWN)
    (new,) = world.decide(dirty("web")).writes.tasks
    assert (new.slot, new.spec_version, new.desired_state) == (1, 2, TaskState.RUNNING)


def test_next_slot_waits_until_the_new_task_has_proven_itself() -> None:
    world = _world(_running(1, 2), _running(2, 1), _running(3, 1))
    decision = world.decide(dirty("web"))
    assert not decision.writes
    assert decision.wakes == {"web": NOW + 5 * SECOND}
    world.now = Instant(NOW + 5 * SECOND)
    assert _stopped(world) == [2]


def test_proven_template_goes_on_as_soon_as_its_newest_task_runs() -> None:
    world = _world(_running(1, 2), _running(2, 2, at=NOW + 60 * SECOND), _running(3, 1))
    world.now = Instant(NOW + 60 * SECOND)
    assert _stopped(world) == [3]


def test_a_failing_template_takes_down_one_slot_and_no_more() -> None:
    world = _world(*(_running(slot, 1) for slot in (1, 2, 3)))
    for _ in range(60):
        world.settle()
        for found in list(world.state.tasks.values()):
            if found.spec_version == 2 and found.state is TaskState.RUNNING:
                world.report(found.node_id, found, TaskState.FAILED)
            else:
                world.advance(found)
        world.now = Instant(world.now + SECOND)
    old = [t for t in world.desired("web") if t.spec_version == 1]
    assert [(t.slot, t.state) for t in old] == [(2, TaskState.RUNNING), (3, TaskState.RUNNING)]


def test_what_does_not_run_anyway_is_replaced_first() -> None:
    down = replace(_running(3, 1), state=TaskState.PREPARING)
    assert _stopped(_world(_running(1, 1), _running(2, 1), down)) == [3]


def test_update_reaches_every_slot_and_never_stops_two() -> None:
    world = _world(*(_running(slot, 1) for slot in (1, 2, 3)))
    for _ in range(100):
        world.settle()
        tasks = world.state.tasks.values()
        assert sum(is_desired(t) and t.state is TaskState.RUNNING for t in tasks) >= 2
        for found in list(tasks):
            world.advance(found)
        world.now = Instant(world.now + SECOND)
    assert [(t.slot, t.spec_version) for t in world.desired("web")] == [(1, 2), (2, 2), (3, 2)]


def test_slot_whose_outdated_task_is_stopping_is_filled_when_its_node_goes_down() -> None:
    stopping = replace(_running(1, 1), desired_state=TaskState.SHUTDOWN)
    world = _world(stopping, _running(2, 1), _running(3, 1))
    world.put_node(build.node("n1", state=NodeState.DOWN))
    written = world.decide(dirty(nodes=["n1"])).writes.tasks
    assert [(t.slot, t.spec_version) for t in written if is_desired(t)] == [(1, 2)]


def test_what_replaces_an_outdated_task_that_ended_is_told_as_a_replacement() -> None:
    world = _world(_running(1, 1), replicas=1)
    world.report("n1", _running(1, 1), TaskState.FAILED)
    events = world.decide(dirty("web")).events
    assert [event.count for event in events if event.kind == EventKind.TASK_REPLACED] == [1]
