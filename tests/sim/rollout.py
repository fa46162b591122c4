"""Rules about updates and restarts, derived from a decision's tasks alone."""

from collections.abc import Iterator

import msgspec

from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Decision
from pyswarm_core.ids import ServiceId, TaskId
from pyswarm_core.objects import Service, Task
from pyswarm_core.state import State
from pyswarm_core.states import Availability, NodeState, TaskState
from tests.sim.placement import Problem, occupies, satisfies
from tests.sim.rules import Rule

MONITOR = 5 * SECOND
"""Swarm's default: a template has proven itself when a task made from it has run this long."""


class Change(msgspec.Struct, frozen=True):
    """One task, as it is and as the decision leaves it."""

    old: Task
    new: Task


def problems(state: State, decision: Decision, now: Instant) -> Iterator[Problem]:
    """What is wrong with what the decision ends and starts."""
    changes: dict[ServiceId, list[Change]] = {}
    for task in decision.writes.tasks:
        if (old := state.tasks.get(task.id)) is not None:
            changes.setdefault(task.service_id, []).append(Change(old, task))
        else:
            yield from _exhausted(state, task)
    for service_id, changed in changes.items():
        service = state.services[service_id]
        yield from _too_early(service, changed, now)
        if not service.removing:
            yield from _update(state, service, changed, decision, now)


def _should_run(task: Task) -> bool:
    return task.desired_state <= TaskState.RUNNING and task.state <= TaskState.RUNNING


def _update(
    state: State, service: Service, changed: list[Change], decision: Decision, now: Instant
) -> Iterator[Problem]:
    victims = [one.new.id for one in changed if _is_victim(state, service, one)]
    if not victims:
        return
    leaving = {one.new.id for one in changed if one.new.desired_state is TaskState.REMOVE}
    down = list(_already_down(state, service, leaving))
    if len(victims) > 1 or down:
        yield (
            Rule.ONE_AT_A_TIME,
            f"an update of {service.spec.name} takes down {victims} while {down} are down",
        )
    if service.spec.mode.per_node:
        # Such a node is no longer the service's: what its task does says nothing of the template.
        leaving |= {one.new.id for one in changed if not _may_stay(state, service, one.new)}
    yield from _unproven(state, service, leaving.union(decision.writes.removed_tasks), now)


def _is_victim(state: State, service: Service, one: Change) -> bool:
    """Whether the task is shut down for no other reason than its outdated template."""
    return (
        _should_run(one.old)
        and one.old.state >= TaskState.ASSIGNED
        and one.new.desired_state is TaskState.SHUTDOWN
        and _is_outdated(service, one.new)
        and _may_stay(state, service, one.new)
    )


def _is_outdated(service: Service, task: Task) -> bool:
    return task.spec_version < service.template_version


def _may_stay(state: State, service: Service, task: Task) -> bool:
    """Whether nothing but an update takes the task from its node."""
    node = state.nodes.get(task.node_id)
    return (
        node is not None
        and node.status.state is not NodeState.DOWN
        and node.spec.availability is not Availability.DRAIN
        and satisfies(service.spec, node)
    )


def _already_down(state: State, service: Service, leaving: set[TaskId]) -> Iterator[str]:
    """Outdated tasks that were told to stop before, still run, and have no successor yet."""
    slots = state.tasks_of_service(service.id).slots
    for tasks in slots.values():
        for task in tasks:
            if (
                _is_outdated(service, task)
                and task.desired_state is TaskState.SHUTDOWN
                and task.id not in leaving
                and occupies(task)
                and not any(_should_run(other) for other in tasks)
                and (node := state.nodes.get(task.node_id)) is not None
                and node.status.state is NodeState.READY
                and node.spec.availability is not Availability.DRAIN
            ):
                yield task.id


def _unproven(state: State, service: Service, gone: set[TaskId], now: Instant) -> Iterator[Problem]:
    """A new template goes on to the next slot when its tasks run, one of them long enough."""
    newest = [tasks[-1] for tasks in state.tasks_of_service(service.id).slots.values()]
    new = [
        task
        for task in newest
        if not _is_outdated(service, task)
        and task.desired_state is not TaskState.REMOVE
        and task.id not in gone
    ]
    name = service.spec.name
    for task in new:
        if _should_run(task) and task.state is not TaskState.RUNNING:
            yield Rule.MONITORED, f"an update of {name} goes on while {task.id} does not run"
    if new and all(_should_run(t) and t.status_at + MONITOR > now for t in new):
        yield Rule.MONITORED, f"an update of {name} goes on before a new task has run for 5 s"


def _too_early(service: Service, changed: list[Change], now: Instant) -> Iterator[Problem]:
    delay = service.spec.task_template.restart_policy.delay
    for one in changed:
        ready, running = TaskState.READY, TaskState.RUNNING
        if one.old.desired_state is ready and one.new.desired_state is running:
            early = one.old.created_at + delay - now
            if early > 0:
                yield Rule.RESTART_DELAY, f"{one.new.id} may start {early / SECOND:.3f} s early"


def _exhausted(state: State, task: Task) -> Iterator[Problem]:
    service = state.services.get(task.service_id)
    policy = service.spec.task_template.restart_policy if service else None
    if policy and policy.max_attempts and not policy.window and task.restarts > policy.max_attempts:
        yield (
            Rule.RESTART_ATTEMPTS,
            f"{task.id} is attempt {task.restarts}, the policy allows {policy.max_attempts}",
        )
