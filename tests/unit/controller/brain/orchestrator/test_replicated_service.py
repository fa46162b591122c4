"""Replicated services: how many tasks, in which slots, and which leave first."""

import pytest
from msgspec.structs import replace

from pyswarm_core.limits import DECISION_COST, WRITE_COST
from pyswarm_core.states import NodeState, TaskState
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld, changed
from tests.fixtures.build import dirty, node, nodes, service, task

REMOVE = TaskState.REMOVE


def _removed(world: BrainWorld, name: str = "web") -> list[int]:
    writes = world.decide(dirty(name)).writes
    return sorted(t.slot for t in writes.tasks if t.desired_state is REMOVE)


def test_scale_up_fills_the_lowest_free_slots() -> None:
    tasks = [task("web.2", node="n1"), task("web.5", node="n1")]
    state = build.state(nodes=nodes(1), services=[service("web", replicas=5)], tasks=tasks)
    world = BrainWorld(state)
    created = world.decide(dirty("web")).writes.tasks
    assert [t.slot for t in created] == [1, 3, 4]


def test_scale_down_removes_what_does_not_run_first() -> None:
    tasks = [
        task("web.1", node="n1", state=TaskState.PREPARING),
        task("web.2", node="n1"),
        task("web.3", node="n2"),
    ]
    state = build.state(nodes=nodes(2), services=[service("web", replicas=2)], tasks=tasks)
    assert _removed(BrainWorld(state)) == [1]


def test_scale_down_removes_from_fullest_node_first_and_the_highest_slot_on_ties() -> None:
    tasks = [task(f"web.{slot}", node="n1" if slot < 4 else "n2") for slot in range(1, 6)]
    state = build.state(nodes=nodes(2), services=[service("web", replicas=2)], tasks=tasks)
    # n1 has 1 2 3 and n2 has 4 5: first 3, then of two each the highest, then of n1's two.
    assert _removed(BrainWorld(state)) == [2, 3, 5]


def test_scale_down_forgets_waiting_tasks_at_once() -> None:
    tasks = [task("web.1", node="n1"), task("web.2", state=TaskState.PENDING)]
    state = build.state(nodes=nodes(1), services=[service("web")], tasks=tasks)
    writes = BrainWorld(state).decide(dirty("web")).writes
    assert writes.removed_tasks == ["web.2"]
    assert not writes.tasks


def test_scale_down_takes_the_history_of_a_slot_with_it() -> None:
    ended = task(
        "web.2", task_id="old", node="n1", state=TaskState.FAILED, desired=TaskState.SHUTDOWN
    )
    tasks = [task("web.1", node="n1"), ended, task("web.2", node="n1", restarts=1)]
    state = build.state(nodes=nodes(1), services=[service("web")], tasks=tasks)
    writes = BrainWorld(state).decide(dirty("web")).writes
    assert writes.removed_tasks == ["old"]
    assert [(t.id, t.desired_state) for t in writes.tasks] == [("web.2", REMOVE)]


@pytest.mark.parametrize("condition", ["any", "none"])
def test_lost_node_is_replaced_at_once_and_told_to_stop_when_it_returns(condition: str) -> None:
    host, web = node("n1"), service("web", spec=build.template(condition=condition))
    state = build.state(nodes=[host, node("n2")], services=[web], tasks=[task("web.1", node="n1")])
    world = BrainWorld(state)
    world.put_node(changed(host, state=NodeState.DOWN))
    written = {t.id: t for t in world.decide(dirty(nodes=["n1"])).writes.tasks}
    old = written.pop("web.1")  # type: ignore[call-overload]
    (new,) = written.values()
    assert (old.state, old.desired_state) == (TaskState.RUNNING, TaskState.SHUTDOWN)
    assert (new.node_id, new.desired_state) == ("n2", TaskState.RUNNING)


def test_large_service_is_decided_in_slices() -> None:
    most = DECISION_COST // WRITE_COST
    state = build.state(nodes=nodes(3), services=[service("web", replicas=2 * most + 500)])
    world = BrainWorld(state)
    sizes = []
    again = {"web"}
    while again:
        decision = world.decide(dirty(*again))
        sizes.append(len(decision.writes.tasks))
        state.apply(decision.writes)
        again = set(decision.again)
    assert sum(sizes) == 2 * most + 500
    assert all(most * 0.9 < size <= most for size in sizes[:2])


def test_a_slot_on_its_way_out_is_not_filled_again() -> None:
    leaving = replace(task("web.2", node="n1"), desired_state=REMOVE)
    tasks = [task("web.1", node="n1"), leaving]
    state = build.state(nodes=nodes(1), services=[service("web")], tasks=tasks)
    assert not BrainWorld(state).decide(dirty("web")).writes


def test_what_ended_on_a_node_that_was_removed_is_forgotten_once_its_slot_is_filled() -> None:
    old = task("web.1", task_id="old", node="gone", state=TaskState.FAILED)
    old = replace(old, desired_state=TaskState.SHUTDOWN)
    new = replace(task("web.1", node="n1"), desired_state=TaskState.READY)
    state = build.state(nodes=nodes(1), services=[service("web")], tasks=[old, new])
    assert BrainWorld(state).decide(dirty("web")).writes.removed_tasks == ["old"]
