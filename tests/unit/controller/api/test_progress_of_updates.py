"""The progress of a service whose update or rollback goes on, is paused or is over."""

from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from controller.api.queries.progress import look_at_progress
from controller.brain.slices import WatchResult, finish
from pyswarm_core.clock import MILLISECOND, SECOND, Instant
from pyswarm_core.ids import ServiceId, TaskId
from pyswarm_core.objects import PreviousSpec, Service, Task, TaskDetail, UpdateStatus
from pyswarm_core.specs import (
    ContainerSpec,
    FailureAction,
    GlobalMode,
    HealthConfig,
    TaskSpec,
    UpdateConfig,
)
from pyswarm_core.states import Availability, TaskState, UpdateState
from pyswarm_core.views import ServiceProgress
from tests.fixtures import build
from tests.fixtures.build import NOW

WEB = ServiceId("web")
SERVES = TaskDetail(serving=True)
PAUSED = "update paused due to failure or early termination of task t1"


def web(state: UpdateState | None, *, replicas: int = 2, **config: object) -> Service:
    """At version 2 of its template, with that state of its update."""
    found = build.service("web", replicas=replicas, version=2, template_version=2)
    settings = UpdateConfig(**config)  # type: ignore[arg-type]
    spec = replace(found.spec, update_config=settings, rollback_config=settings)
    message = PAUSED if state and "paused" in state else "update in progress"
    status = UpdateStatus(state=state, message=message, to_version=2) if state else None
    return replace(found, spec=spec, update_status=status)


def running(slot: int, *, version: int = 2, ago: int = 0, detail: TaskDetail = SERVES) -> Task:
    at = Instant(NOW - ago)
    return build.task(f"web.{slot}", node="n1", version=version, at=at, detail=detail)


def failed(slot: int, *, ago: int = 0) -> Task:
    detail = TaskDetail(error="non-zero exit (1)", exit_code=1)
    return build.task(
        f"web.{slot}", node="n1", version=2, at=NOW - ago, state=TaskState.FAILED, detail=detail
    )


@dataclass
class Seen:
    """The progress, and when time alone may change it."""

    progress: ServiceProgress
    due: Instant


def seen(service: Service, *tasks: Task, now: int = NOW) -> Seen:
    state = build.state(nodes=build.nodes(1), services=[service], tasks=tasks)
    result: WatchResult[ServiceProgress] = finish(look_at_progress(state, WEB, Instant(now)))
    return Seen(result.value, result.due)


@pytest.mark.parametrize("state", [UpdateState.UPDATING, UpdateState.ROLLBACK_STARTED])
def test_a_service_has_not_converged_while_its_update_goes_on(state: UpdateState) -> None:
    progress = seen(web(state), running(1), running(2)).progress
    assert (progress.converged, progress.updated, progress.failure) == (False, 2, "")
    assert (progress.update_state, progress.update_to) == (state, 2)


@pytest.mark.parametrize(
    "state", [None, UpdateState.COMPLETED, UpdateState.ROLLBACK_COMPLETED, UpdateState.PAUSED]
)
def test_it_has_once_no_update_goes_on(state: UpdateState | None) -> None:
    progress = seen(web(state), running(1), running(2)).progress
    assert (progress.converged, progress.failure, progress.stable_in) == (True, "", 0)


def test_a_service_of_no_tasks_has_converged_whatever_its_update_does() -> None:
    assert seen(web(UpdateState.UPDATING, replicas=0)).progress.converged


def test_the_time_until_the_new_tasks_are_stable_is_told() -> None:
    updating = web(UpdateState.UPDATING, monitor=7 * SECOND)
    one, other = running(1, ago=4 * SECOND), running(2, ago=SECOND)
    assert seen(updating, one, other).progress.stable_in == 6 * SECOND
    assert seen(updating, one, running(2, version=1)).progress.stable_in == 0
    assert seen(updating, one, other, now=NOW + 7 * SECOND).progress.stable_in == 0


@pytest.mark.parametrize("state", [UpdateState.PAUSED, UpdateState.ROLLBACK_PAUSED])
def test_a_paused_update_has_its_message_and_is_no_failure_of_tasks(state: UpdateState) -> None:
    progress = seen(web(state), running(1), running(2, version=1)).progress
    assert (progress.converged, progress.is_paused) == (False, True)
    assert (progress.failure, progress.update_message) == ("", PAUSED)


def test_a_paused_update_does_not_end_the_wait_for_tasks_that_end() -> None:
    leaving = web(UpdateState.PAUSED, replicas=0)
    progress = seen(leaving, replace(running(1), desired_state=TaskState.REMOVE)).progress
    assert (progress.converged, progress.is_paused, progress.alive) == (False, False, 1)


def test_a_service_is_filled_by_tasks_of_any_version() -> None:
    paused = web(UpdateState.PAUSED, replicas=3)
    new, old = running(1), running(2, version=1)
    assert not seen(paused, new, old).progress.filled
    assert seen(paused, new, old, running(3, version=1)).progress.filled
    surplus = [running(slot, version=1) for slot in (3, 4)]
    assert not seen(paused, new, old, *surplus).progress.filled


@pytest.mark.parametrize("replicas", [2, None])
def test_the_slots_of_a_global_service_are_nodes(replicas: int | None) -> None:
    progress = seen(build.service("web", replicas=replicas), running(1, version=1)).progress
    assert progress.per_node is (replicas is None)


def test_an_outdated_task_that_was_restarted_fills_its_slot_once_it_has_run_long_enough() -> None:
    paused = web(UpdateState.PAUSED, replicas=1, monitor=5 * SECOND)
    paused = replace(paused, updated_at=Instant(NOW - 9 * SECOND))
    ended = replace(failed(1, ago=3 * SECOND), spec_version=1, desired_state=TaskState.SHUTDOWN)
    again = replace(running(1, version=1, ago=2 * SECOND), id=TaskId("web.1b"), restarts=1)
    found = seen(paused, ended, again)
    assert (found.progress.filled, found.due) == (False, NOW + 3 * SECOND)
    assert seen(paused, ended, again, now=NOW + 3 * SECOND).progress.filled


@pytest.mark.parametrize("version", [1, 2])
def test_tasks_of_both_versions_that_will_not_run_fail_the_wait_during_a_pause(
    version: int,
) -> None:
    paused = web(UpdateState.PAUSED)
    spec = replace(paused.spec, task_template=build.template(condition="none"))
    earlier = PreviousSpec(version=1, spec=spec)
    paused = replace(paused, spec=spec, previous_specs=(earlier,))
    ended = replace(failed(1), spec_version=version)
    assert seen(paused, ended, running(2)).progress.failure.startswith("web.1 failed: non-zero")


def test_a_completed_task_of_the_former_version_fills_its_slot_during_a_pause() -> None:
    paused = web(UpdateState.PAUSED)
    spec = replace(paused.spec, task_template=build.template(condition="on-failure"))
    paused = replace(paused, spec=spec)
    done = build.task("web.1", node="n1", version=1, state=TaskState.COMPLETE)
    progress = seen(paused, done, running(2)).progress
    assert (progress.filled, progress.converged, progress.completed) == (True, False, 0)


@pytest.mark.parametrize("action", [FailureAction.PAUSE, FailureAction.ROLLBACK])
def test_the_leader_decides_before_a_failed_task_of_an_update_ends_the_wait(
    action: FailureAction,
) -> None:
    updating = web(UpdateState.UPDATING, failure_action=action)
    spec = replace(updating.spec, task_template=build.template(condition="none"))
    updating = replace(updating, spec=spec)
    just = seen(updating, failed(1, ago=SECOND - MILLISECOND), running(2, version=1))
    assert (just.progress.failure, just.due) == ("", NOW + MILLISECOND)
    later = seen(updating, failed(1, ago=SECOND), running(2, version=1))
    assert later.progress.failure.startswith("web.1 failed: non-zero exit (1), and it is not")
    goes_on = replace(updating.spec.update_config, failure_action=FailureAction.CONTINUE)
    tolerant = replace(updating, spec=replace(updating.spec, update_config=goes_on))
    assert seen(tolerant, failed(1), running(2, version=1)).progress.failure


def test_a_task_counts_once_it_is_ready() -> None:
    container = ContainerSpec(image="web", readiness=HealthConfig(test=("TCP", "80")))
    checked = build.service("web", replicas=1, spec=TaskSpec(container_spec=container))
    waits = TaskDetail(message="not ready: connection refused")
    task = replace(running(1, version=1), detail=waits)
    progress = seen(checked, task).progress
    assert (progress.updated, progress.running, progress.converged) == (0, 1, False)
    assert progress.slots[0].message == "not ready: connection refused"
    assert seen(checked, running(1, version=1)).progress.converged
    unchecked = build.service("web", replicas=1)
    assert seen(unchecked, task).progress.converged


@pytest.mark.parametrize(
    ("state", "converged"), [(UpdateState.COMPLETED, True), (UpdateState.UPDATING, False)]
)
def test_a_paused_node_that_keeps_an_outdated_task_holds_up_no_wait(
    state: UpdateState, converged: bool
) -> None:
    service = replace(web(state), spec=replace(web(state).spec, mode=GlobalMode()))
    hosts = [build.node("n1"), build.node("n2", availability=Availability.PAUSE)]
    old = build.task("web.2", node="n2", version=1)
    world = build.state(nodes=hosts, services=[service], tasks=[running(1), old])
    result: WatchResult[ServiceProgress] = finish(look_at_progress(world, WEB, NOW))
    progress = result.value
    assert (progress.converged, progress.running, progress.desired) == (converged, 2, 2)
