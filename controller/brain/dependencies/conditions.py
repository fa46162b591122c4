"""Whether the conditions of a service's dependencies hold, from the stored tasks alone. PURE.

A dependency is judged by the tasks of its newest template that were not stopped since. A slot has
started if its task runs or has completed; a task with a health check runs once it is healthy. No
condition has to hold again once a service has been released (`Gate.released_version`).
"""

from collections.abc import Iterator
from itertools import chain, islice
from typing import NamedTuple

from controller.brain.dependencies.requests import is_switched_off
from controller.brain.orchestrator.modes import orchestrator_of
from controller.brain.orchestrator.restart import ended_by_itself, is_restart, refusal
from pyswarm_core.ids import ServiceId
from pyswarm_core.indexes.rollout import is_outdated
from pyswarm_core.indexes.tasks import ServiceTasks, runs_as_desired
from pyswarm_core.limits import CRASH_LOOP_RESTARTS
from pyswarm_core.objects import HealthState, Service, Task
from pyswarm_core.stacks.dependencies import Dependency, DependencyCondition
from pyswarm_core.stacks.limits import DEPENDENCY_SLOTS
from pyswarm_core.state import State
from pyswarm_core.states import TaskState

_VERBS = {
    DependencyCondition.STARTED: "to start",
    DependencyCondition.HEALTHY: "to be healthy",
    DependencyCondition.COMPLETED: "to complete",
}


class Unmet(NamedTuple):
    """A condition that does not hold."""

    text: str
    """`waits for shop_db to be healthy (1 of 2)`; if it failed, what has failed."""
    failed: bool = False
    """It cannot hold unless somebody changes the dependency."""
    service_id: ServiceId = ServiceId("")
    """The dependency, if it exists."""


Judged = dict[tuple[str, DependencyCondition, bool], Unmet | None]
"""What was found of a dependency, by its name, the condition, and whether it is required: one
decision judges it once, however many services depend on it.
"""


class _Count(NamedTuple):
    """How many slots of a dependency are as its condition demands."""

    done: int
    failure: str = ""
    """How a task ended that is not replaced, or whose replacements fail again and again."""


def unmet(state: State, service: Service, judged: Judged | None = None) -> list[Unmet]:
    """The conditions that do not hold, those that failed first; empty if tasks may start. Those of
    dependencies that are not required do not count once they have failed. `judged`: what was found
    of the same state before, which this adds to.
    """
    known: Judged = {} if judged is None else judged
    found = []
    for one in service.spec.depends_on:
        key = one.service, one.condition, one.required
        if key not in known:
            known[key] = _judged(state, one)
        if (why := known[key]) is not None:
            found.append(why)
    return sorted(found, key=lambda why: not why.failed)


def message_of(found: list[Unmet]) -> str:
    """The message of a task that waits for these conditions."""
    return "; ".join(why.text for why in found)


def _judged(state: State, dependency: Dependency) -> Unmet | None:
    name = dependency.service
    service_id = state.service_of_name.get(name)
    service = state.services.get(service_id) if service_id else None
    if service is None:
        return _unless_optional(dependency, Unmet(f"waits for {name}, which does not exist"))
    if service.spec.stopped:
        return _unless_optional(
            dependency, Unmet(f"waits for {name}, which is stopped", service_id=service.id)
        )
    desired = orchestrator_of(service).desired(state, service)
    if not desired:
        if not service.spec.mode.per_node:
            return None
        why = Unmet(f"waits for {name}, for which there is no node", service_id=service.id)
        return _unless_optional(dependency, why)
    return _of_tasks(state, service, dependency, desired)


def _unless_optional(dependency: Dependency, why: Unmet) -> Unmet | None:
    return why if dependency.required else None


def _of_tasks(state: State, service: Service, dependency: Dependency, desired: int) -> Unmet | None:
    condition, tasks = dependency.condition, state.tasks_of_service(service.id)
    is_old = service.is_updating and tasks.outdated > 0
    if condition is DependencyCondition.COMPLETED:
        count = _completed(service, tasks, desired)
    else:
        count = _running(service, tasks, desired, condition)
    if condition is DependencyCondition.HEALTHY and (why := _without_check(service, tasks)):
        count = _Count(0, why)
    if count.done >= desired and not is_old and not count.failure:
        return None
    failure = count.failure
    if service.is_paused:
        status = service.update_status
        failure = f"{service.spec.name}: {status.message if status else ''}"
    if failure and not dependency.required:
        return None
    done = min(count.done, desired)
    text = f"waits for {service.spec.name} {_VERBS[condition]}"
    if not failure:
        text += ": it is being updated" if is_old else f" ({done} of {desired})"
    elif condition is DependencyCondition.STARTED and done:
        text += f" ({done} of {desired}): {failure}"
    else:
        text = failure
    return Unmet(text, bool(failure), service.id)


def _running(
    service: Service, tasks: ServiceTasks, desired: int, condition: DependencyCondition
) -> _Count:
    """The slots whose task runs (a task with a health check runs once it is healthy), or has
    completed if it need not be healthy.
    """
    may_end = condition is DependencyCondition.STARTED
    if tasks.running >= desired:
        return _Count(tasks.running)
    done, failure = tasks.running, ""
    for held in _with_ends(tasks):
        if not any(map(runs_as_desired, held)):
            done += may_end and _has_completed(service, held)
            failure = failure or _failure(service, held, may_complete=may_end)
    return _Count(done, failure)


def _completed(service: Service, tasks: ServiceTasks, desired: int) -> _Count:
    """The slots in which a task has ended with exit code 0."""
    done, failure = 0, ""
    for held in _with_ends(tasks):
        if _has_completed(service, held):
            done += 1
        else:
            failure = failure or _failure(service, held, may_complete=True)
    return _Count(done, failure)


def _with_ends(tasks: ServiceTasks) -> Iterator[tuple[Task, ...]]:
    """The tasks of slots in which some may have ended: of all such slots once no task is left that
    may yet end, of a part of them before.
    """
    alive, known = sum(tasks.versions.values()), chain(tasks.unsettled, tasks.storied)
    for number in dict.fromkeys(islice(known, DEPENDENCY_SLOTS) if alive else known):
        yield tasks.slots[number]


def _of_now(service: Service, held: tuple[Task, ...]) -> Iterator[Task]:
    """The slot's tasks of the present template that ended by themselves since the start."""
    for task in reversed(held):
        since = task.status_at >= service.started_at
        if ended_by_itself(task) and since and not is_outdated(service, task):
            yield task


def _has_completed(service: Service, held: tuple[Task, ...]) -> bool:
    return any(task.state is TaskState.COMPLETE for task in _of_now(service, held))


def _failure(service: Service, held: tuple[Task, ...], *, may_complete: bool) -> str:
    """How the slot's last task ended, if it is not replaced or if its replacements fail too."""
    ended = next(_of_now(service, held), None)
    if ended is None or (may_complete and ended.state is TaskState.COMPLETE):
        return ""
    newest = held[-1]
    if newest is ended:
        policy = service.spec.task_template.restart_policy
        era = [task for task in held if not is_outdated(service, task)]
        given_up = is_restart(service, ended) and bool(refusal(policy, ended, era))
    else:
        given_up = newest.consecutive_restarts >= CRASH_LOOP_RESTARTS
    return f"{service.spec.name} {_end(ended)}" if given_up else ""


def _end(task: Task) -> str:
    if task.detail.oom:
        return "ran out of memory"
    if task.state is TaskState.REJECTED:
        return f"could not be created: {task.detail.error or task.detail.message}"
    if task.detail.exit_code or task.state is TaskState.COMPLETE:
        return f"ended with exit code {task.detail.exit_code}"
    return f"failed: {task.detail.error or task.detail.message}"


def _without_check(service: Service, tasks: ServiceTasks) -> str:
    """The text for a service none of whose tasks can become healthy: neither it nor its image, as a
    running task shows, has a health check.
    """
    spec = service.spec.task_template.container_spec
    needs = "which condition service_healthy needs"
    if is_switched_off(service.spec):
        return f"{service.spec.name} has its health check switched off, {needs}"
    if spec.healthcheck.test or not tasks.running:
        return ""
    held = (tasks.slots[number] for number in islice(tasks.slots, DEPENDENCY_SLOTS))
    newest = next((task for slot in held for task in slot if runs_as_desired(task)), None)
    if newest is None or newest.detail.health is not HealthState.NONE:
        return ""
    if is_outdated(service, newest):
        return ""
    return f"{service.spec.name} and its image have no health check, {needs}"
