"""Which outdated tasks are replaced next, and what follows from failures. PURE.

At most `parallelism` slots are in flight: from the stop of their outdated task, or the creation of
the new one beside it, until the new task serves (or ended: then the slot has failed) and the delay
has passed since it began to run. The next slots follow at once; the monitored time only counts
failures, and the update is completed when the last new task has run that long. The tasks show the
progress, so it survives any interruption; `Service.update_status` stores what they do not show.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from controller.brain.orchestrator.enforce import misfit
from controller.brain.orchestrator.plan import AFTER_ALL, Plan, Vacancy
from controller.brain.orchestrator.slots import Slot, SlotKind, shut_down
from controller.brain.revisions import (
    begun,
    failed_update_target,
    rolled_back,
    unrecorded_base,
)
from pyswarm_core.clock import NEVER, Instant, after
from pyswarm_core.decision import EventKind
from pyswarm_core.errors import PyswarmError
from pyswarm_core.ids import NodeId, TaskId
from pyswarm_core.indexes.limited import awaits_limits
from pyswarm_core.indexes.rollout import is_failure, is_first, is_outdated, serves
from pyswarm_core.indexes.tasks import ServiceTasks, is_desired, waits_for_node
from pyswarm_core.limits import PENDING_SHOWN, SERVE_DEADLINE
from pyswarm_core.objects import Service, Task, clipped
from pyswarm_core.specs import FailureAction, UpdateOrder
from pyswarm_core.state import State
from pyswarm_core.states import Availability, NodeState, TaskState, UpdateState

_MESSAGE_SHOWN = 200
"""Bytes of a task's message in that of an update."""
_STOPPED_FIRST = "outdated; stopped first: no node takes the new task beside it"

_WAITING_SCANNED = 16
"""To take a slot from a ranking costs as much as to look at so many briefly."""


class UpdateProgress(NamedTuple):
    """How far an update is in some slots of a service."""

    in_flight: int = 0
    """Slots whose update has begun and is not over."""
    free_at: Instant = NEVER
    """When the first of them, which only waits for the update's delay, is over."""
    failures: int = 0
    """Slots whose first new task ended within the monitored time."""
    failed: str = ""
    """The id of such a task."""
    last: Instant = Instant(0)
    """When the last of the new tasks that serve began to run; 0 if none does."""
    limited: int = 0
    """Slots whose agents have yet to change the limits of their tasks."""

    def joined(self, other: "UpdateProgress") -> "UpdateProgress":
        """The progress in the slots of both."""
        return UpdateProgress(
            self.in_flight + other.in_flight,
            min(self.free_at, other.free_at),
            self.failures + other.failures,
            self.failed or other.failed,
            max(self.last, other.last),
            self.limited + other.limited,
        )


_NONE = UpdateProgress()
_IN_FLIGHT = UpdateProgress(in_flight=1)
_REPLACED = (SlotKind.ACTIVE, SlotKind.COMPLETED, SlotKind.WAITING)
"""The kinds of slots that an update takes next."""


def advance(plan: Plan, state: State, seen: Mapping[int, Slot], now: Instant) -> None:
    """At the end of a round, take the next step of the update. `seen`: the slots that this decision
    looked at, as it leaves them.
    """
    tasks = state.tasks_of_service(plan.service.id)
    held = _held_back(plan, state)
    if not plan.service.is_updating:
        if not (left := _outdated_left(plan, tasks, held)):
            return
        # Begun by an older version, which stored no status; or a node was paused during the update.
        status = begun(plan.service, unrecorded_base(plan.service), left, now)
        plan.record(replace(plan.service, update_status=status))
    if plan.holds:
        return
    seen = _without_held(plan.service, seen, held)
    progress = _whole(plan, tasks, seen, now)
    if _exceeds(plan, progress):
        _fail(plan, state, progress, now)
        return
    if _give_up(plan, tasks, seen, progress, now):
        plan.cut(AFTER_ALL)  # the next decision counts them
        return
    parallelism = plan.service.update_settings.parallelism
    room = _room(plan, progress)
    taken = _take(plan, tasks, seen, room, held)
    if plan.in_flight or plan.missing:
        plan.room_left = (parallelism or AFTER_ALL) - progress.in_flight - taken
        plan.candidates = _next(plan, tasks, seen, held, PENDING_SHOWN)
    if taken or progress.in_flight or progress.limited or _outdated_left(plan, tasks, held):
        if progress.free_at < NEVER:
            plan.wake_at(progress.free_at)
        return
    settings = plan.service.update_settings
    at = after(progress.last, max(settings.monitor, settings.delay)) if progress.last else now
    if at > now:
        plan.wake_at(at)
    else:
        _complete(plan, progress, now)


def _held_back(plan: Plan, state: State) -> dict[int, bool]:
    """The slots of a global service whose nodes may get no task now, with whether the node is
    paused. Their outdated tasks stay; the update does not wait for those on paused nodes.
    """
    if not plan.service.spec.mode.per_node:
        return {}
    table = state.node_table
    unfit = np.flatnonzero(~table.schedulable[: len(table.nodes)])
    nodes = [table.nodes[row] for row in unfit.tolist()]
    held = {
        node.number: node.spec.availability is Availability.PAUSE
        for node in nodes
        if node is not None
    }
    plan.scanned += 8 * len(held)
    return held


def _without_held(
    service: Service, seen: Mapping[int, Slot], held: Mapping[int, bool]
) -> Mapping[int, Slot]:
    """The slots; those as empty that are held back with their outdated task, or with a new one that
    waits for a paused node.
    """
    if not held:
        return seen
    found = dict(seen)
    for number, slot in seen.items():
        if number not in held or slot.kind is not SlotKind.ACTIVE or slot.task is None:
            continue
        if is_outdated(service, slot.task) or (held[number] and waits_for_node(slot.task)):
            found[number] = Slot(number, SlotKind.EMPTY)
    return found


def _progress(plan: Plan, slot: Slot, now: Instant) -> UpdateProgress:
    """The progress in one slot."""
    service = plan.service
    match slot.kind:
        case SlotKind.STOPPING:
            return _IN_FLIGHT
        case _ if slot.number in plan.vacancies:  # also one that was empty, and is filled again
            vacancy = plan.vacancies[slot.number]
            if vacancy.failed_update:
                return UpdateProgress(failures=1, failed=vacancy.follows)
            is_new = vacancy.version >= service.template_version and not vacancy.restarts
            return _IN_FLIGHT if is_new else _NONE
        case _ if slot.task is None or is_outdated(service, slot.task):
            return _NONE
        case _ if is_failure(service, slot.task):
            return UpdateProgress(failures=1, failed=slot.task.id)
        case SlotKind.ACTIVE if is_first(service, slot.task):
            return _of_first(service, slot.task, now)
        case _:
            return _NONE


def _of_first(service: Service, task: Task, now: Instant) -> UpdateProgress:
    """The progress in a slot whose first new task has not ended."""
    if not serves(task):
        return _IN_FLIGHT
    at = after(task.status_at, service.update_settings.delay)
    if at > now:
        return UpdateProgress(1, at, last=task.status_at)
    return UpdateProgress(last=task.status_at)


def _whole(
    plan: Plan, tasks: ServiceTasks, seen: Mapping[int, Slot], now: Instant
) -> UpdateProgress:
    """The progress in all slots, those to be made included."""
    made = [number for number in plan.vacancies if number not in seen]
    found = UpdateProgress(len(made) + plan.missing)
    plan.in_flight = dict.fromkeys(made)
    for slot in seen.values():
        progress = _progress(plan, slot, now)
        found = found.joined(progress)
        if progress.in_flight and _has_no_node(plan, tasks, slot):
            plan.in_flight[slot.number] = None
        if slot.kind is SlotKind.ACTIVE and slot.task and awaits_limits(plan.service, slot.task):
            found = found.joined(UpdateProgress(limited=1))
    rollout = tasks.rollout
    if rollout is None:
        return found
    plan.scanned += len(seen)
    failures, failed = rollout.failed(seen)
    in_flight = rollout.in_flight(seen)
    settings = plan.service.update_settings
    # As many as fill the room: the first of them to be over is the first to make some.
    waits = len(plan.in_flight) + plan.missing
    room = settings.parallelism - in_flight - found.in_flight + waits
    most = room if settings.delay > 0 and (tasks.outdated or rollout.ended) else 0
    waiting = rollout.running_since(seen, Instant(now - settings.delay), most)
    plan.scanned += _WAITING_SCANNED * (len(seen) + len(waiting))
    return found.joined(
        UpdateProgress(
            in_flight + len(waiting),
            after(waiting[-1], settings.delay) if waiting else NEVER,
            failures,
            "" if failed is None else tasks.slots[failed][-1].id,
            rollout.last_running(seen),
            len(rollout.limited) - sum(slot in rollout.limited for slot in seen),
        )
    )


def _has_no_node(plan: Plan, tasks: ServiceTasks, slot: Slot) -> bool:
    """Whether the slot's new task has yet to get a node, and no outdated one is beside it."""
    if slot.number not in plan.vacancies and not (slot.task and waits_for_node(slot.task)):
        return False
    left = [task for task in tasks.slots.get(slot.number, ()) if task.id not in plan.removed]
    left = [plan.changed.get(task.id, task) for task in left]
    return not any(is_desired(task) and is_outdated(plan.service, task) for task in left)


def _outdated_left(plan: Plan, tasks: ServiceTasks, held: Mapping[int, bool]) -> int:
    """How many outdated tasks are desired after this decision, without those on paused nodes."""
    ended = 0
    for task in (*plan.changed.values(), *plan.removed.values()):
        ends = task.id in plan.removed or not is_desired(task)
        if ends and is_outdated(plan.service, task):
            stored = tasks.slots.get(task.slot, ())
            ended += any(one.id == task.id and is_desired(one) for one in stored)
    left = [task for task in _on_paused(tasks, held) if task.id not in plan.removed]
    stay = [task for task in left if is_desired(task) and is_outdated(plan.service, task)]
    return tasks.outdated - ended - sum(is_desired(plan.changed.get(t.id, t)) for t in stay)


def _on_paused(tasks: ServiceTasks, held: Mapping[int, bool]) -> list[Task]:
    return [task for number in held if held[number] for task in tasks.slots.get(number, ())]


def _give_up(
    plan: Plan,
    tasks: ServiceTasks,
    seen: Mapping[int, Slot],
    progress: UpdateProgress,
    now: Instant,
) -> bool:
    """Whether slots count as failed from now on because their first new tasks run and do not serve,
    while the update has got no further. A task that served before, and fails its readiness check
    for a moment, holds the update up for less than that.
    """
    service, rollout = plan.service, tasks.rollout
    status, settings = service.update_status, service.update_settings
    if not progress.in_flight or status is None or rollout is None:
        return False
    last = after(progress.last, max(settings.monitor, settings.delay)) if progress.last else 0
    since = max(Instant(last), status.started_at)
    if (at := after(since, SERVE_DEADLINE)) > now:
        plan.wake_at(at)
        return False
    flying = [slot.task for slot in seen.values() if slot.kind is SlotKind.ACTIVE and slot.task]
    others = [number for number in rollout.slots_in_flight() if number not in seen]
    flying += [tasks.slots[number][-1] for number in others]
    plan.scanned += len(others)
    left, count = max(1, plan.writes_left), 0
    for task in flying:
        is_late = task.state is TaskState.RUNNING and not serves(task)
        if not is_late or not is_first(service, task) or task.created_at < status.started_at:
            continue
        if (at := after(task.status_at, SERVE_DEADLINE)) > now:
            plan.wake_at(at)
        elif count < left:
            plan.changed[task.id] = replace(plan.changed.get(task.id, task), failed_update=True)
            count += 1
    return count > 0


def _exceeds(plan: Plan, progress: UpdateProgress) -> bool:
    """Whether more slots have failed than the settings tolerate."""
    status, settings = plan.service.update_status, plan.service.update_settings
    if status is None or settings.failure_action is FailureAction.CONTINUE:
        return False
    tolerated = settings.max_failure_ratio * max(1, status.slots)
    return progress.failures > 0 and progress.failures > tolerated


def _fail(plan: Plan, state: State, progress: UpdateProgress, now: Instant) -> None:
    """Pause the update, or roll it back. A rollback is only paused."""
    service, status = plan.service, plan.service.update_status
    assert status is not None
    cause = f"due to failure or early termination of task {progress.failed}"
    failed = state.tasks.get(TaskId(progress.failed))
    runs = failed is not None and failed.state is TaskState.RUNNING and not failed.restarts
    if failed is not None and runs and not serves(failed):
        waits = clipped(failed.detail.message, _MESSAGE_SHOWN)
        cause = f"due to failure of task {failed.id}: it runs and never served ({waits})"
    action = service.update_settings.failure_action
    if action is not FailureAction.ROLLBACK or status.state.is_rollback:
        pause(plan, cause, progress.failures)
        return
    message = f"update rolled back {cause}"
    try:
        target = failed_update_target(service)
        rolled = rolled_back(state, service, target, now, message, automatic=True)
    except PyswarmError as error:
        pause(plan, f"{cause}: it cannot be rolled back: {error}", progress.failures)
        return
    # What was planned for the failed template is decided again.
    plan.vacancies.clear()
    plan.pending.clear()
    plan.missing = 0
    plan.record(rolled)
    plan.report(EventKind.ROLLBACK, message)
    plan.cut(0)


def pause(plan: Plan, reason: str, failures: int) -> None:
    """Pause the update or the rollback."""
    status = plan.service.update_status
    assert status is not None
    word = "rollback" if status.state.is_rollback else "update"
    state = UpdateState.ROLLBACK_PAUSED if status.state.is_rollback else UpdateState.PAUSED
    message = f"{word} paused {reason}"
    status = replace(status, state=state, message=message, failures=failures)
    plan.record(replace(plan.service, update_status=status))
    plan.report(EventKind.UPDATE_PAUSED, message)


def _complete(plan: Plan, progress: UpdateProgress, now: Instant) -> None:
    status = plan.service.update_status
    assert status is not None
    rolls_back = status.state.is_rollback
    state = UpdateState.ROLLBACK_COMPLETED if rolls_back else UpdateState.COMPLETED
    message = "rollback completed" if rolls_back else "update completed"
    status = replace(
        status, state=state, message=message, completed_at=now, failures=progress.failures
    )
    plan.record(replace(plan.service, update_status=status))
    plan.report(EventKind.UPDATE_COMPLETED, message)


def _room(plan: Plan, progress: UpdateProgress) -> int:
    """How many more slots may be in flight."""
    parallelism = plan.service.update_settings.parallelism
    return max(0, parallelism - progress.in_flight) if parallelism else AFTER_ALL


def stop_instead(
    plan: Plan, state: State, slots: Iterable[int], makes_room: Callable[[Task], bool]
) -> None:
    """In a start-first update, end the outdated tasks of slots whose new task no node takes beside
    them: these slots are updated stop-first. An outdated task stays if its own node could not take
    the new one either: it is not ready, not active, against a constraint or too small.
    """
    service = plan.service
    if plan.order is not UpdateOrder.START_FIRST or plan.holds or not service.is_updating:
        return
    for number in slots:
        for task in state.tasks_of_service(service.id).slots.get(number, ()):
            known = plan.changed.get(task.id, task)
            if task.id in plan.removed or not is_desired(known):
                continue
            node = state.nodes.get(task.node_id)
            if node is None or node.status.state is not NodeState.READY:
                continue
            usable = node.spec.availability is Availability.ACTIVE
            if not usable or not is_outdated(service, known) or misfit(state, service, known):
                continue
            if makes_room(task):
                shut_down(plan, known, _STOPPED_FIRST)
                plan.cut(0)  # some room is free at once: the maximum per node


def go_on(
    plan: Plan, waiting: Iterable[int], missing: int, makes_room: Callable[[Task], bool]
) -> None:
    """Slots whose new tasks no node takes are not in flight for outdated tasks that make room for
    one: these end, and as many tasks run as before. `missing`: how many more are to be made.
    """
    others = sum(number in plan.in_flight for number in waiting) + missing
    if not others or not plan.candidates:
        return
    room = plan.room_left + others
    for task in plan.candidates:
        known = plan.changed.get(task.id, task)
        if room <= 0:
            break
        if task.id not in plan.removed and is_desired(known) and makes_room(task):
            first = plan.order is UpdateOrder.START_FIRST
            shut_down(plan, known, _STOPPED_FIRST if first else "outdated")
            plan.cut(0)  # some room is free at once: the maximum per node
            room -= 1


def _take(
    plan: Plan,
    tasks: ServiceTasks,
    seen: Mapping[int, Slot],
    room: int,
    held: Mapping[int, bool],
) -> int:
    """Shut down the next outdated tasks, or make the new ones beside them or after them if they
    ended by themselves; return how many. None are
    made beside others while a task waits for a node: they would wait too.
    """
    if plan.order is UpdateOrder.START_FIRST:
        others = (*plan.removed.values(), *_on_paused(tasks, held))
        dropped = {task.id: None for task in others if waits_for_node(task)}
        if tasks.pending > len(dropped):
            plan.waits_for_room = True
            return 0
    most = min(room, max(1, plan.writes_left - len(plan.vacancies)))
    chosen = _next(plan, tasks, seen, held, most)
    for task in chosen:
        if plan.order is UpdateOrder.START_FIRST or not is_desired(task):
            node_id = task.node_id if plan.service.spec.mode.per_node else NodeId("")
            why = (EventKind.TASK_REPLACED, "outdated")
            plan.vacancies[task.slot] = Vacancy(task.slot, plan.version, node_id=node_id, why=why)
        else:
            shut_down(plan, task, "outdated")
    if len(chosen) == most < room:
        plan.cut(AFTER_ALL)
    return len(chosen)


def _next(
    plan: Plan,
    tasks: ServiceTasks,
    seen: Mapping[int, Slot],
    held: Mapping[int, bool],
    most: int,
) -> list[Task]:
    """The next outdated tasks, at most so many: first those that do not run."""
    outdated = [
        (int(slot.runs), slot.number, slot.task)
        for slot in seen.values()
        if slot.kind in _REPLACED and slot.task and is_outdated(plan.service, slot.task)
    ]
    if tasks.rollout is not None and most:
        found = tasks.rollout.next_outdated({**held, **seen} if held else seen, most)
        outdated += [(runs, number, tasks.slots[number][-1]) for runs, number in found]
    chosen = sorted(outdated, key=lambda entry: entry[:2])[:most]
    rollout = tasks.rollout
    return [
        task if number in seen or rollout is None else rollout.shown(tasks.slots[number])
        for _, number, task in chosen
    ]
