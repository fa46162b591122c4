"""Frozen tasks are no replicas; they stay where they are while their nodes may run them."""

import pytest
from msgspec.structs import replace

from controller.api.queries.progress import service_progress
from pyswarm_core.ids import ServiceId
from pyswarm_core.objects import Node, Task
from pyswarm_core.states import Availability, NodeState, TaskState
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld
from tests.fixtures.build import NOW, dirty, nodes, service, task

FROZEN, S = TaskState.FROZEN, TaskState.SHUTDOWN


def _world(*tasks: Task, replicas: int = 1) -> BrainWorld:
    services = [service("web", replicas=replicas)]
    return BrainWorld(build.state(nodes=nodes(3), services=services, tasks=tasks))


def _frozen(state: TaskState = TaskState.RUNNING) -> Task:
    return task("web.1", node="n1", task_id="blue", desired=FROZEN, state=state)


GREEN = task("web.1", node="n2", task_id="green")


def test_a_slot_with_a_frozen_task_and_one_that_runs_needs_nothing() -> None:
    world = _world(_frozen(), GREEN)
    assert not world.decide().writes
    assert service_progress(world.state, ServiceId("web"), NOW).converged


def test_a_frozen_task_alone_fills_no_slot() -> None:
    world = _world(_frozen())
    (made,) = world.decide(dirty("web")).writes.tasks
    assert (made.slot, made.desired_state) == (1, TaskState.RUNNING)
    world.converge()
    assert [(t.slot, t.state) for t in world.desired("web")] == [(1, TaskState.RUNNING)]
    assert world.state.tasks[_frozen().id].desired_state is FROZEN


def test_what_replaces_the_task_that_runs_is_not_the_frozen_one() -> None:
    world = _world(_frozen(), GREEN)
    world.report("n2", GREEN, TaskState.FAILED)
    world.settle(dirty("web"))
    assert {t.desired_state for t in world.state.tasks.values()} == {FROZEN, S, TaskState.READY}


@pytest.mark.parametrize(
    "lost",
    [
        build.node("n1", state=NodeState.DOWN),
        build.node("n1", availability=Availability.DRAIN),
    ],
    ids=["down", "drained"],
)
def test_a_frozen_task_leaves_a_node_that_may_not_run_it(lost: Node) -> None:
    world = _world(_frozen(), GREEN)
    world.put_node(lost)
    (ended,) = world.decide(dirty(nodes=["n1"])).writes.tasks
    assert (ended.id, ended.desired_state) == ("blue", S)
    world.settle(dirty(nodes=["n1"]))


def test_a_frozen_task_holds_what_it_reserves() -> None:
    spec = build.template(memory=3 * build.GIB)
    state = build.state(
        nodes=nodes(1, memory=8 * build.GIB),
        services=[service("web", spec=spec)],
        tasks=[_frozen()],
    )
    assert state.node_table.reserved_memory[state.node_table.rows[build.node("n1").id]] == (
        3 * build.GIB
    )


def test_a_frozen_task_that_ends_is_history() -> None:
    world = _world(_frozen(TaskState.COMPLETE), GREEN)
    (ended,) = world.decide(dirty("web")).writes.tasks
    assert (ended.id, ended.desired_state) == ("blue", S)


def test_a_slot_that_is_given_up_gives_up_its_frozen_task() -> None:
    world = _world(_frozen(), GREEN, replicas=0)
    written = world.decide(dirty("web")).writes.tasks
    assert {t.id: t.desired_state for t in written} == {
        "blue": TaskState.REMOVE,
        "green": TaskState.REMOVE,
    }


def test_a_frozen_task_may_run_again() -> None:
    world = _world(replace(_frozen(), desired_state=TaskState.RUNNING))
    assert not world.decide().writes
