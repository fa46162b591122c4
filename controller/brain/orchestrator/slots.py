"""Settles one slot: the step that both orchestrators share. PURE.

`settle` moves one slot towards exactly one task that should run: it shuts down tasks that may not
stay, adds a vacancy where a task must be replaced, starts tasks whose restart delay is over, and
deletes history. The number of slots is not its concern.

In a start-first update (`Plan.order`) the slot's new tasks are settled by themselves, and one
outdated task runs beside them until the new one serves. While an update is paused, a slot with an
outdated task keeps its template (`Plan.is_paused`).
"""

from enum import Enum
from typing import NamedTuple

from msgspec.structs import replace

from controller.brain.orchestrator.enforce import misfit, orphaned_at
from controller.brain.orchestrator.plan import Plan, Vacancy
from controller.brain.orchestrator.reaper import is_forgettable, superfluous
from controller.brain.orchestrator.restart import (
    consecutive_after,
    delay_before,
    is_restart,
    refusal,
    replaced_at,
    restarts_remembered,
    starts_at,
)
from controller.brain.volumes import has_files, writes_alone
from pyswarm_core.clock import NEVER, Instant, after
from pyswarm_core.decision import EventKind
from pyswarm_core.indexes.rollout import ended_early, is_failure, is_made, is_outdated, serves
from pyswarm_core.indexes.tasks import is_desired
from pyswarm_core.limits import (
    CRASH_LOOP_RESTARTS,
    RESTART_PERIOD_MIN,
    TEXTS_PER_SLOT,
    UNFINISHED_MAX,
)
from pyswarm_core.objects import Service, Task, ended_unasked
from pyswarm_core.specs import UpdateOrder
from pyswarm_core.state import State
from pyswarm_core.states import TaskState, ends_by_itself, is_terminal, lives

_S = TaskState
_FROZEN = TaskState.FROZEN
_STOP_FIRST = UpdateOrder.STOP_FIRST


class SlotKind(Enum):
    """What fills a slot."""

    ACTIVE = "active"
    """A task that should run and has not ended."""
    VACANT = "vacant"
    """A task is to be made in this decision."""
    STOPPING = "stopping"
    """Its outdated task is being stopped; it is replaced when it has ended."""
    WAITING = "waiting"
    """Its task ended before its own restart delay was over; it is replaced after the delay."""
    COMPLETED = "completed"
    """Its task ended and the restart policy does not replace it."""
    EMPTY = "empty"
    """No task, or only tasks that are being removed."""


class Slot(NamedTuple):
    """A slot after `settle`."""

    number: int
    kind: SlotKind
    task: Task | None = None
    """The active, completed or stopping task."""

    @property
    def filled(self) -> bool:
        """Whether it counts as one of the desired replicas."""
        return self.kind is not SlotKind.EMPTY

    @property
    def runs(self) -> bool:
        """Whether its task runs."""
        return self.task is not None and is_desired(self.task) and self.task.state is _S.RUNNING

    @property
    def serves(self) -> bool:
        """Whether its task runs and may receive connections."""
        return self.runs and self.task is not None and serves(self.task)


def settle(plan: Plan, state: State, number: int, now: Instant) -> Slot:
    """Settle one slot; the changes go to the plan."""
    plan.slots += 1
    tasks = _present(plan, state, number, now)
    if plan.service.spec.stopped:
        slot = _stop(plan, state, number, tasks, now)
    else:
        slot = _fill(plan, state, number, _without_frozen(plan, state, tasks), now)
    makes_one = slot.kind in (SlotKind.VACANT, SlotKind.EMPTY) and not plan.service.spec.stopped
    if makes_one and _must_wait(plan, state, tasks, now):
        plan.vacancies.pop(number, None)
        slot = Slot(number, SlotKind.STOPPING)
    _forget(plan, state, slot, tasks)
    return slot


def _stop(plan: Plan, state: State, number: int, tasks: list[Task], now: Instant) -> Slot:
    """Shut down the slot's tasks; those that ended stay as its history."""
    for task in tasks:
        if is_desired(task) or (task.desired_state is _FROZEN and not is_terminal(task.state)):
            plan.report(EventKind.TASK_SHUTDOWN, "its service was stopped")
            _dismiss(plan, state, task, now)
        elif lives(task.desired_state):
            plan.change(task, desired=_S.SHUTDOWN)
    return Slot(number, SlotKind.EMPTY)


def _must_wait(plan: Plan, state: State, tasks: list[Task], now: Instant) -> bool:
    """Whether the slot gets no other task before some of its tasks have ended. One task at a time
    has a container's writable layer, or writes to its volumes.
    """
    if plan.service.spec.mode.is_container:
        return bool(_unfinished(plan, tasks))
    if writes_alone(state, plan.service):  # a copy that was given up is not that of the next task
        service, left = plan.service, _unfinished(plan, tasks)
        return any(has_files(state, service, one) for one in left)
    return len(tasks) >= UNFINISHED_MAX and _is_crowded(plan, state, tasks, now)


def _unfinished(plan: Plan, tasks: list[Task]) -> list[Task]:
    """The tasks that should end and have not, after the plan's changes."""
    left = [plan.changed.get(task.id, task) for task in tasks if task.id not in plan.removed]
    return [task for task in left if not lives(task.desired_state) and not is_terminal(task.state)]


def _is_crowded(plan: Plan, state: State, tasks: list[Task], now: Instant) -> bool:
    """Whether the slot gets no other task, because too many of its tasks should end and have not.
    Tasks on nodes that are down, oldest first, are marked as orphaned before that.
    """
    unfinished = _unfinished(plan, tasks)
    surplus = max(0, len(unfinished) - UNFINISHED_MAX + 1)
    lost = [task for task in unfinished if orphaned_at(state, task) < NEVER][:surplus]
    for task in lost:
        plan.report(
            EventKind.TASK_STATE, "orphaned: its node is down and its slot has too many tasks"
        )
        plan.end(task, _S.ORPHANED, now)
    return len(lost) < surplus


def _without_frozen(plan: Plan, state: State, tasks: list[Task]) -> list[Task]:
    """The tasks that may fill the slot: all but frozen ones. Frozen tasks that may not stay end."""
    others = [task for task in tasks if task.desired_state is not _FROZEN]
    if len(others) == len(tasks):
        return tasks
    for task in tasks:
        if task.desired_state is not _FROZEN:
            continue
        if is_terminal(task.state):
            plan.change(task, desired=_S.SHUTDOWN)
        elif reason := misfit(state, plan.service, task):
            shut_down(plan, task, reason)
    return others


def _fill(plan: Plan, state: State, number: int, tasks: list[Task], now: Instant) -> Slot:
    service = plan.service
    if plan.order is _STOP_FIRST:
        return _fill_with_one(plan, state, number, tasks, now)
    tasks = sorted(tasks, key=_precedence)
    new = [task for task in tasks if not is_outdated(service, task)]
    outdated = [task for task in tasks if is_outdated(service, task)]
    if not _is_begun(plan, new, outdated):
        return _fill_with_one(plan, state, number, tasks, now)
    slot = _fill_with_one(plan, state, number, new, now)
    done = slot.serves or _is_through(service, slot)
    _run_beside(plan, state, outdated, done, now)
    return slot


def _is_through(service: Service, slot: Slot) -> bool:
    """Whether the slot's new task completed for good, and its slot has not failed: it failed if the
    task ended within the monitored time.
    """
    task = slot.task
    if slot.kind is not SlotKind.COMPLETED or task is None or task.state is not _S.COMPLETE:
        return False
    return not is_failure(service, task) and not ended_early(service, task)


def _precedence(task: Task) -> int:
    """Of several tasks that should run the one with the highest is kept, of equal ones the newest:
    one that serves takes precedence over one that only runs.
    """
    return (task.state is _S.RUNNING) + serves(task) if is_desired(task) else 0


def _is_begun(plan: Plan, new: list[Task], outdated: list[Task]) -> bool:
    """Whether the new tasks of a slot are settled by themselves. Beside an outdated task, those do
    not count that ended before the update: it returns to their template.
    """
    kept = [task for task in new if task.desired_state is not _S.REMOVE]
    if not any(map(is_desired, outdated)):
        return bool(kept) and not _is_followed(plan, kept[-1], outdated)
    return any(lives(task.desired_state) or is_made(plan.service, task) for task in kept)


def _is_followed(plan: Plan, ended: Task, outdated: list[Task]) -> bool:
    """Whether a task that ended by itself before the update began was followed in its slot by an
    outdated one, which was told to end since.
    """
    status = plan.service.update_status
    if status is None or not ends_by_itself(ended.state) or ended.status_at >= status.started_at:
        return False
    last = outdated[-1] if outdated else ended
    return last.created_at > ended.created_at and not ends_by_itself(last.state)


def _run_beside(plan: Plan, state: State, outdated: list[Task], done: bool, now: Instant) -> None:
    """Keep one of the outdated tasks, the last that may stay, until the update of the slot is done.
    If it ends, it is not replaced.
    """
    for task in reversed(outdated):
        if not is_desired(task):
            if ends_by_itself(task.state) and task.desired_state < _S.SHUTDOWN:
                plan.change(task, desired=_S.SHUTDOWN)
        elif done:
            shut_down(plan, task, "outdated")
        elif (kept := _keep(plan, state, task)) is None:
            _dismiss(plan, state, task, now)
        else:
            _start(plan, kept, now)
            done = True


def _fill_with_one(plan: Plan, state: State, number: int, tasks: list[Task], now: Instant) -> Slot:
    active: Task | None = None
    desired = [task for task in reversed(tasks) if is_desired(task)]
    if len(desired) > 1:  # a rollback keeps the task of the template that it returns to
        desired.sort(key=lambda task: (is_outdated(plan.service, task), -_precedence(task)))
    for task in desired:
        if is_desired(plan.changed.get(task.id, task)):
            kept = None if active else _keep(plan, state, task)
            if kept is None:
                _dismiss(plan, state, task, now)
            active = active or kept
    if active is not None:
        return Slot(number, SlotKind.ACTIVE, _start(plan, active, now))
    return _without_active(plan, state, number, tasks, now)


def discard(plan: Plan, state: State, number: int, now: Instant) -> None:
    """Remove the slot: its tasks are deleted at once, or when their agent has ended them."""
    plan.slots += 1
    plan.vacancies.pop(number, None)
    for task in _present(plan, state, number, now):
        if is_forgettable(task) or task.node_id not in state.nodes:
            plan.remove(task)
        elif task.desired_state is not _S.REMOVE:
            plan.change(task, desired=_S.REMOVE)


def shut_down(plan: Plan, task: Task, reason: str) -> None:
    """End a task; one that was never sent to an agent is deleted instead."""
    plan.report(EventKind.TASK_SHUTDOWN, reason)
    if is_forgettable(task):
        plan.remove(task)
    else:
        plan.change(task, desired=_S.SHUTDOWN)


def _keep(plan: Plan, state: State, task: Task) -> Task | None:
    """The task if it may stay, else None, with an event that says why."""
    is_old = is_outdated(plan.service, task) and not plan.is_paused
    if task.state < _S.ASSIGNED and is_old:
        plan.report(EventKind.TASK_REPLACED, "outdated before it had a node")
        return None
    if task.state >= _S.ASSIGNED and not task.node_id:
        plan.report(EventKind.TASK_REPLACED, "its node was removed")
        return None
    reason = misfit(state, plan.service, task)
    if reason:
        plan.report(EventKind.TASK_REPLACED, reason)
        return None
    return task


def _dismiss(plan: Plan, state: State, task: Task, now: Instant) -> None:
    if is_forgettable(task) or task.node_id not in state.nodes:
        plan.remove(task)
    else:
        _orphan(plan, state, plan.change(task, desired=_S.SHUTDOWN), now)


def _start(plan: Plan, task: Task, now: Instant) -> Task:
    """Start a task whose restart delay is over; add it to `pending` if it still needs a node."""
    if task.state < _S.ASSIGNED:
        plan.pending[task.id] = task
    if task.desired_state is _S.READY:
        at = starts_at(plan.service.spec.task_template.restart_policy, task)
        if at <= now:
            return plan.change(task, desired=_S.RUNNING)
        plan.wake_at(at)
    return task


def _without_active(plan: Plan, state: State, number: int, tasks: list[Task], now: Instant) -> Slot:
    last = next((task for task in reversed(tasks) if task.desired_state is not _S.REMOVE), None)
    if last is None:
        return Slot(number, SlotKind.EMPTY)
    if is_restart(plan.service, last):
        return _after_its_own_end(plan, number, last, tasks, now)
    if ends_by_itself(last.state) and lives(last.desired_state):
        plan.change(last, desired=_S.SHUTDOWN)
    ended_before_start = ended_unasked(last)
    at = after(last.created_at, RESTART_PERIOD_MIN)
    if ended_before_start and at > now:  # repeated if the clock of the leader then was ahead
        plan.wake_at(at)
        return Slot(number, SlotKind.WAITING, last)
    told = last.id in plan.changed or last.id in plan.removed
    stopping = not told and not is_terminal(last.state)
    is_old = is_outdated(plan.service, last)
    if stopping and is_old and not misfit(state, plan.service, last):
        return Slot(number, SlotKind.STOPPING, last)
    version = plan.version_after(last)
    if is_old and version == plan.version:
        vacancy = Vacancy(number, version)
    else:
        vacancy = Vacancy(number, version, failed_update=is_failure(plan.service, last))
        if last.created_at >= plan.service.started_at:
            vacancy = replace(
                vacancy,
                restarts=last.restarts,
                restarted_at=last.restarted_at,
                consecutive_restarts=last.consecutive_restarts,
            )
    plan.vacancies[number] = vacancy
    return Slot(number, SlotKind.VACANT)


def _after_its_own_end(
    plan: Plan, number: int, last: Task, tasks: list[Task], now: Instant
) -> Slot:
    if last.desired_state is not _S.SHUTDOWN:
        plan.change(last, desired=_S.SHUTDOWN)
    version = plan.version_after(last)
    is_old = is_outdated(plan.service, last)
    anew = None
    if is_old and version == plan.version:
        anew = Vacancy(number, version, why=(EventKind.TASK_REPLACED, "outdated"))
    if anew and (not plan.service.is_updating or plan.service.spec.mode.per_node):
        plan.vacancies[number] = anew
        return Slot(number, SlotKind.VACANT)
    policy = plan.service.spec.task_template.restart_policy
    era = [task for task in tasks if is_outdated(plan.service, task) is is_old]
    if refusal(policy, last, era):
        return Slot(number, SlotKind.COMPLETED, last)
    if (at := replaced_at(policy, last)) > now:
        plan.wake_at(at)
        return Slot(number, SlotKind.WAITING, last)
    if anew:
        plan.vacancies[number] = anew
        return Slot(number, SlotKind.VACANT)
    consecutive = consecutive_after(last)
    waits = _S.READY if delay_before(policy, consecutive) > 0 else _S.RUNNING
    plan.vacancies[number] = Vacancy(
        number,
        version,
        waits,
        last.restarts + 1,
        restarted_at=restarts_remembered(policy, last, era, now),
        consecutive_restarts=consecutive,
        failed_update=is_failure(plan.service, last),
        follows=last.id,
        why=(EventKind.TASK_REPLACED, _end(last)),
    )
    if consecutive == CRASH_LOOP_RESTARTS and last.state is not _S.COMPLETE:
        name = plan.service.name_of(last)
        plan.report(
            EventKind.CRASH_LOOP, f"{name} failed {consecutive} times in a row: {_end(last)}"
        )
    return Slot(number, SlotKind.VACANT)


def _end(task: Task) -> str:
    if task.detail.oom:
        return "out of memory"
    if task.state is _S.FAILED and task.detail.exit_code:
        return f"exit code {task.detail.exit_code}"
    return task.state.word


def _present(plan: Plan, state: State, number: int, now: Instant) -> list[Task]:
    """The slot's tasks, orphans marked, without those that are deleted in any case."""
    tasks = []
    for task in state.tasks_of_service(plan.service.id).slots.get(number, ()):
        if task.id in plan.removed:
            continue
        kept = _orphan(plan, state, plan.changed.get(task.id, task), now)
        gone = (
            kept.node_id not in state.nodes
            and not is_desired(kept)
            and not ends_by_itself(kept.state)
        )
        unsent = kept.state < _S.ASSIGNED and not lives(kept.desired_state)  # no agent will end it
        if gone or unsent or (kept.desired_state is _S.REMOVE and is_forgettable(kept)):
            plan.remove(kept)
        else:
            tasks.append(kept)
    return tasks


def _forget(plan: Plan, state: State, slot: Slot, tasks: list[Task]) -> None:
    """Delete history beyond its limit or of removed nodes, but never the task in the slot."""
    kept = "" if slot.task is None else slot.task.id
    # A task that this decision orphans has ended, too.
    tasks = [plan.changed.get(task.id, task) for task in tasks]
    ended = [task for task in tasks if is_terminal(task.state) and task.id != kept]
    for task in ended:
        if task.node_id not in state.nodes:
            plan.remove(task)
    history = state.cluster.spec.history_kept
    if plan.service.spec.mode.is_container:
        history = max(1, history)  # the end of a stopped container is shown
    for task in superfluous(tasks, history):
        if task.id != kept:
            plan.remove(task)
    for task in ended[:-TEXTS_PER_SLOT]:
        if task.id not in plan.removed:
            plan.shorten(task)


def _orphan(plan: Plan, state: State, task: Task, now: Instant) -> Task:
    if is_terminal(task.state) or is_desired(task) or task.state < _S.ASSIGNED:
        return task
    at = orphaned_at(state, task)
    if at > now:
        plan.wake_at(at)
        return task
    plan.report(EventKind.TASK_STATE, "orphaned: its node stayed down")
    return plan.end(task, _S.ORPHANED, now)
