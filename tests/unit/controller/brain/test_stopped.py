"""Services that are stopped, and tasks that a user restarts."""

import pytest
from msgspec.structs import replace

from controller.api.changes.services import Update, update_service
from controller.api.changes.tasks import restart_task
from controller.api.queries.progress import service_progress
from controller.api.queries.views import desired_slots, desired_tasks, service_summary
from controller.api.queries.why import why
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, NotFound
from pyswarm_core.ids import ServiceId, TaskId
from pyswarm_core.objects import Service, TaskDetail
from pyswarm_core.states import TaskState, UpdateState
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld

WEB = ServiceId("web")


def changed(world: BrainWorld, *, stopped: bool) -> Service:
    """The service stopped or started, by a request."""
    old = world.state.services[WEB]
    update = Update(old.id, old.version, replace(old.spec, stopped=stopped))
    writes, service = update_service(world.state, update, (), world.now, world.ids)
    world.state.apply(writes)
    return service


def ended(world: BrainWorld, end: TaskState, times: int = 1) -> None:
    """All tasks of web have ended so often: none follows."""
    for _ in range(times):
        world.converge()
        for task in world.desired("web"):
            world.report(task.node_id, task, end, TaskDetail(ran=SECOND))
    world.converge()
    assert not world.desired("web")


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


@pytest.mark.parametrize("replicas", [2, None])
@pytest.mark.parametrize(
    ("condition", "attempts", "end", "times"),
    [
        ("none", 0, TaskState.COMPLETE, 1),
        ("none", 0, TaskState.FAILED, 1),
        ("on-failure", 0, TaskState.COMPLETE, 1),
        ("any", 2, TaskState.FAILED, 3),
    ],
)
def test_a_start_runs_tasks_again_that_had_ended(
    replicas: int | None, condition: str, attempts: int, end: TaskState, times: int
) -> None:
    spec = build.template(condition=condition, max_attempts=attempts, delay=0)
    web = build.service("web", replicas=replicas, spec=spec)
    world = BrainWorld(build.state(nodes=build.nodes(2), services=[web]))
    ended(world, end, times)
    changed(world, stopped=True)
    world.converge()
    service = changed(world, stopped=False)
    assert service.started_at == world.now
    progress = service_progress(world.state, WEB, world.now)
    assert (progress.converged, progress.completed, progress.failure) == (False, 0, "")
    last = max(world.state.tasks.values(), key=lambda task: task.created_at)
    assert not any("not replaced" in line for line in why(world.state, last.id, world.now))
    world.converge()
    again = world.desired("web")
    assert [(task.slot, task.state, task.restarts) for task in again] == [
        (1, TaskState.RUNNING, 0),
        (2, TaskState.RUNNING, 0),
    ]
    ended(world, end, times)  # the same number of attempts, and then no more
    assert not world.desired("web")


def test_a_start_makes_old_versions_again_under_a_paused_update_once() -> None:
    world = BrainWorld(build.state(nodes=build.nodes(2), services=[paused()]))
    old = build.task("web.1", node="n1", state=TaskState.COMPLETE)
    world.state.apply(Writes(tasks=[old]))
    world.converge()
    changed(world, stopped=True)
    world.converge()
    changed(world, stopped=False)
    ended(world, TaskState.COMPLETE)
    versions = [task.spec_version for task in world.state.tasks.values()]
    assert versions == [1, 1]


def paused() -> Service:
    """One replica that is not restarted; its update to version 2 is paused."""
    old = build.service("web", spec=build.template(condition="none"))
    spec = build.template("new", condition="none")
    new = build.updating(build.service("web", spec=spec, version=2, template_version=2), old.spec)
    assert new.update_status is not None
    return replace(new, update_status=replace(new.update_status, state=UpdateState.PAUSED))


def test_a_task_is_not_run_again_that_a_quick_stop_and_start_left_alone() -> None:
    web = build.service("web", spec=build.template(condition="none"))
    world = BrainWorld(build.state(nodes=build.nodes(1), services=[web]))
    world.converge()
    (task,) = world.desired("web")
    changed(world, stopped=True)
    changed(world, stopped=False)
    world.converge()
    assert [one.id for one in world.desired("web")] == [task.id]
    ended(world, TaskState.COMPLETE)


def test_tasks_that_end_are_not_repeated_faster_while_the_clock_is_behind() -> None:
    web = build.service("web", spec=build.template(condition="none"))
    ahead = replace(web, started_at=Instant(build.NOW + 1000 * SECOND))
    world = BrainWorld(build.state(nodes=build.nodes(1), services=[ahead]))
    world.settle()
    (task,) = world.desired("web")
    world.report("n1", task, TaskState.COMPLETE)
    assert world.decide(build.dirty("web")).wakes == {WEB: build.NOW + SECOND}
    world.settle()
    assert not world.desired("web")


def test_the_counts_of_a_task_that_a_stop_ended_begin_anew() -> None:
    web = build.service("web", spec=build.template(max_attempts=3))
    world = BrainWorld(build.state(nodes=build.nodes(1), services=[web]))
    running = build.task("web.1", node="n1", restarts=3)
    world.state.apply(Writes(tasks=[replace(running, consecutive_restarts=3)]))
    changed(world, stopped=True)
    world.now = Instant(world.now + SECOND)
    world.converge()
    changed(world, stopped=False)
    world.converge()
    (task,) = world.desired("web")
    assert (task.restarts, task.consecutive_restarts) == (0, 0)


def test_a_restarted_task_ends_and_its_slot_gets_another_at_once() -> None:
    world = BrainWorld(
        build.state(nodes=build.nodes(2), services=[build.service("web", replicas=2)])
    )
    world.converge()
    (old,) = (task for task in world.desired("web") if task.slot == 1)
    began = world.now
    writes, ending = restart_task(world.state, old.id, world.now)
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
        restart_task(state, task.id, build.NOW)
    with pytest.raises(NotFound, match="no such task"):
        restart_task(state, TaskId("gone"), build.NOW)
