"""What a service's update or rollback waits for, and why it is paused. PURE.

An answer costs the slots that are shown, not all slots of the service.
"""

import re
from collections.abc import Iterator
from itertools import chain, islice

from msgspec.structs import replace

from controller.api.queries.why_task import end
from controller.api.queries.wording import span
from controller.brain.dependencies.conditions import message_of, unmet
from controller.brain.orchestrator.restart import ended_by_itself
from pyswarm_core.clock import Instant, after
from pyswarm_core.docker.units import counted
from pyswarm_core.ids import TaskId
from pyswarm_core.indexes.dependents import awaits
from pyswarm_core.indexes.in_place import awaits_in_place
from pyswarm_core.indexes.rollout import is_first, is_outdated, serves
from pyswarm_core.indexes.tasks import ServiceTasks, is_desired
from pyswarm_core.objects import Service, Task, UpdateStatus
from pyswarm_core.state import State
from pyswarm_core.states import Availability, TaskState, UpdateState, is_terminal

_TASKS_SHOWN = 3
_FAILED_TASK = re.compile(r"of task ([^\s:]+)")
"""In the message of an update that was paused or rolled back."""
_SLOTS_SEARCHED = 1_000
_SLOTS_LOOKED_AT = 100
"""Slots in flight that are looked at; more would add nothing."""


def why_updated(state: State, service: Service, now: Instant) -> list[str]:
    """The state of the service's last update or rollback, what it waits for and what would help;
    nothing once it is completed.
    """
    status = service.update_status
    if status is not None and status.state is UpdateState.ROLLBACK_COMPLETED:
        return _why_rolled_back(state, service, status, now)
    if status is None or not status.state.is_unfinished:
        return []
    word = "rollback" if status.state.is_rollback else "update"
    begun = span(now - status.started_at)
    left = _left(state, service, status)
    lines = [f"the {word} to version {status.to_version} began {begun} ago: {left}"]
    if status.state.is_paused:
        return [*lines, status.message, *_why_paused(state, service, status, now)]
    if status.state.is_rollback:
        lines += [status.message, *_failed(state, service, status, now)]
    if waits := waits_for(state, service, now):
        lines.append(f"the {word} continues {waits}")
    return lines


def with_message(state: State, service: Service, now: Instant) -> Service:
    """The service; the message of an update that goes on says what it waits for as well."""
    status, waits = service.update_status, waits_for(state, service, now)
    if status is None or not waits:
        return service
    message = f"{status.message}; it continues {waits}"
    return replace(service, update_status=replace(status, message=message))


def waits_for(state: State, service: Service, now: Instant) -> str:
    """What an update that goes on waits for, as `when ...` or `in ...`; empty if for nothing."""
    status = service.update_status
    tasks = state.tasks_of_service(service.id)
    if status is None or not status.state.is_unfinished or status.state.is_paused:
        return ""
    if service.spec.stopped:
        return f"when the service is started: pyswarm service start {service.spec.name}"
    if awaits(service) and (found := unmet(state, service)):
        return f"when its dependencies let it: {message_of(found)}"
    settings = service.update_settings
    if waiting := list(islice(_in_flight(service, tasks), _TASKS_SHOWN + 1)):
        more = " and others do" if len(waiting) > _TASKS_SHOWN else ""
        return f"when {', '.join(waiting[:_TASKS_SHOWN])}{more}"
    if tasks.rollout is None:
        return ""
    left = bool(tasks.rollout.next_outdated((), 1))
    most = settings.parallelism if left and settings.delay else 0
    recent = tasks.rollout.running_since((), Instant(now - settings.delay), most)
    if recent:
        return f"in {span(after(recent[-1], settings.delay) - now)} (its delay)"
    last = tasks.rollout.last_running(())
    at = after(last, max(settings.monitor, settings.delay))
    if last and not left and at > now:
        is_monitored = settings.monitor >= settings.delay
        why = ": until then the new tasks are monitored" if is_monitored else " (its delay)"
        return f"in {span(at - now)}{why}"
    if again := list(islice(_failed_slots(service, tasks), _TASKS_SHOWN)):
        return f"when {', '.join(again)}"
    return _held_back(state, service, tasks)


def _held_back(state: State, service: Service, tasks: ServiceTasks) -> str:
    """The node of a global service's outdated task that may get no task now, and is not paused."""
    if tasks.rollout is None or not service.spec.mode.per_node:
        return ""
    for _, number in tasks.rollout.next_outdated((), _SLOTS_LOOKED_AT):
        node = state.nodes.get(tasks.slots[number][-1].node_id)
        if node is None or node.spec.availability is not Availability.ACTIVE:
            continue
        if not state.node_table.schedulable[state.node_table.rows[node.id]]:
            return f"when node {node.description.hostname} can start tasks"
    return ""


def _left(state: State, service: Service, status: UpdateStatus) -> str:
    tasks = state.tasks_of_service(service.id)
    outdated = _outdated(tasks)
    are = "is" if outdated == 1 else "are"
    left = f"{outdated} of {counted(status.slots, 'task')} {are} to be replaced"
    limited = len(tasks.rollout.limited) if tasks.rollout else 0
    if not outdated:
        have = "has" if limited == 1 else "have"
        text = f"{counted(limited, 'task')} {have} yet to get new limits"
        left = text if limited else "no task is outdated"
    return f"{left}, {status.failures} failed" if status.failures else left


def _outdated(tasks: ServiceTasks) -> int:
    """How many tasks the update has yet to replace."""
    return tasks.outdated + (len(tasks.rollout.ended) if tasks.rollout else 0)


def _in_flight(service: Service, tasks: ServiceTasks) -> Iterator[str]:
    """What is awaited of each slot in flight."""
    rollout = tasks.rollout
    starting = chain(rollout.slots_in_flight(), rollout.limited) if rollout else ()
    for number in islice(dict.fromkeys(chain(tasks.unsettled, starting)), _SLOTS_LOOKED_AT):
        for task in tasks.slots.get(number, ()):
            if text := _awaited(service, task):
                yield text


def _failed_slots(service: Service, tasks: ServiceTasks) -> Iterator[str]:
    """Which new tasks of slots that failed do not serve."""
    for number in islice(tasks.unsettled, _SLOTS_LOOKED_AT):
        for task in tasks.slots.get(number, ()):
            is_new = not is_outdated(service, task) and not is_first(service, task)
            if is_new and is_desired(task) and not is_terminal(task.state) and not serves(task):
                yield _serves(service, task)


def _awaited(service: Service, task: Task) -> str:
    name = service.name_of(task)
    if is_outdated(service, task):
        stops = (
            not is_desired(task)
            and task.state >= TaskState.ASSIGNED
            and not is_terminal(task.state)
        )
        return f"{name} ({task.state.word}) has stopped" if stops else ""
    if awaits_in_place(service, task) and task.state is TaskState.RUNNING and is_desired(task):
        return f"{name} has its new limits"
    if not is_first(service, task) or not is_desired(task) or is_terminal(task.state):
        return ""
    return "" if serves(task) else _serves(service, task)


def _serves(service: Service, task: Task) -> str:
    """What is awaited of a task that does not serve yet."""
    return f"{service.name_of(task)} ({task.detail.message or task.state.word}) serves"


def _why_paused(state: State, service: Service, status: UpdateStatus, now: Instant) -> list[str]:
    lines = _failed(state, service, status, now)
    name = service.spec.name
    if status.from_version and not status.state.is_rollback:
        lines.append(
            f"remedy: return to version {status.from_version}: pyswarm service rollback {name}"
        )
    lines.append(f"remedy: go on as it is: pyswarm service update {name}")
    return lines


def _why_rolled_back(
    state: State, service: Service, status: UpdateStatus, now: Instant
) -> list[str]:
    """When a rollback was completed, and how a task of what it undid ended."""
    done = span(now - status.completed_at)
    lines = [f"it was rolled back to the spec of version {status.from_version} {done} ago"]
    for held in islice(state.tasks_of_service(service.id).slots.values(), _SLOTS_SEARCHED):
        for task in reversed(held):
            undone = status.from_version < task.spec_version < status.to_version
            if undone and ended_by_itself(task):
                text = end(state, service, task, now)
                return [
                    *lines,
                    f"{service.name_of(task)}, of version {task.spec_version}: {text}",
                ]
    return lines


def _failed(state: State, service: Service, status: UpdateStatus, now: Instant) -> list[str]:
    """How the task ended that the status's message names."""
    named = _FAILED_TASK.search(status.message)
    failed = state.tasks.get(TaskId(named[1])) if named else None
    if failed is None or failed.service_id != service.id:
        return []
    name = service.name_of(failed)
    if failed.state is TaskState.RUNNING:
        ran = span(now - failed.status_at)
        lacks = failed.detail.message or "it does not listen on its published ports"
        served = "serves now" if serves(failed) else f"did not serve: {lacks}"
        return [f"{name}: it has run for {ran} and {served}"]
    return [f"{name}: {end(state, service, failed, now)}"]
