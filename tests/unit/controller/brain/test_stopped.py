"""Services that are stopped, and tasks that a user restarts."""

import pytest
from msgspec.structs import replace

from controller.api.changes.tasks import restart_task
from controller.api.queries.progress import service_progress
from controller.api.queries.views import desired_slots, desired_tasks, service_summary
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, NotFound
from pyswarm_core.ids import ServiceId, TaskId
from pyswarm_core.objects import Service
from pyswarm_core.states import TaskState
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld

WEB = ServiceId("web")


def changed(world: BrainWorld, *, stopped: bool) -> Service:
    """The service stopped or started, as an update stores it."""
    old = world.state.services[WEB]
    service = replace(
        old, spec=replace(old.spec, stopped=stopped), spec_version=old.spec_version + 1
    )
    world.state.apply(Writes(objects=(service,)))
    return service


@pytest.mark.parametrize("replicas", [3, None])
def test_a_stopped_service_has_no_tasks_and_starts_with_as_many_as_before(
    replicas: int | None,
) -> None:
    web = build.service("web", replicas=replicas)
    world = BrainWorld(build.state(nodes=build.nodes(3), services=[web]))
    world.converge()
    assert len(world.desired("web")) == 3
    service = changed(world, stopped=True)
    world.settle()
    assert {task.desired_state for task in world.state.tasks.values()} == {TaskState.SHUTDOWN}
    assert not service_progress(world.state, WEB, world.now).converged
    world.converge()
    assert {task.state for task in world.state.tasks.values()} == {TaskState.SHUTDOWN}
    assert (desired_tasks(world.state, service), desired_slots(world.state, service)) == (0, ())
    assert service_progress(world.state, WEB, world.now).converged
    assert service_summary(world.state, service).unlisted == 0
    changed(world, stopped=False)
    world.converge()
    assert len(world.desired("web")) == 3
    assert service_progress(world.state, WEB, world.now).converged


def test_a_global_service_that_is_stopped_gets_no_task_on_a_new_node() -> None:
    web = build.service("web", replicas=None)
    world = BrainWorld(
        build.state(
            nodes=build.nodes(1), services=[replace(web, spec=replace(web.spec, stopped=True))]
        )
    )
    world.converge()
    world.state.apply(Writes(objects=(replace(build.node("n9"), number=9),)))
    world.converge()
    assert not world.state.tasks


def test_a_restarted_task_ends_and_its_slot_gets_another_at_once() -> None:
    world = BrainWorld(
        build.state(nodes=build.nodes(2), services=[build.service("web", replicas=2)])
    )
    world.converge()
    (old,) = (task for task in world.desired("web") if task.slot == 1)
    began = world.now
    writes, ending = restart_task(world.state, old.id)
    assert (ending.id, ending.desired_state) == (old.id, TaskState.SHUTDOWN)
    world.state.apply(writes)
    world.settle()
    (new,) = (task for task in world.desired("web") if task.slot == 1)
    assert (new.id != old.id, new.desired_state, new.restarts) == (True, TaskState.RUNNING, 0)
    assert world.now == began
    world.converge()
    assert {task.slot for task in world.desired("web")} == {1, 2}


@pytest.mark.parametrize("desired", [TaskState.SHUTDOWN, TaskState.REMOVE])
def test_a_task_that_ends_is_not_restarted(desired: TaskState) -> None:
    task = build.task("web.1", node="n1", desired=desired)
    state = build.state(nodes=build.nodes(1), services=[build.service("web")], tasks=[task])
    with pytest.raises(Conflict, match=rf"task web\.1 .* desired {desired.word}: only a task"):
        restart_task(state, task.id)
    with pytest.raises(NotFound, match="no such task"):
        restart_task(state, TaskId("gone"))
