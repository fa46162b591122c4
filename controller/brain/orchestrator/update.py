"""Which outdated tasks are replaced next, and what follows from failures. PURE.

At most `parallelism` slots are in flight: from the stop of their outdated task, or the creation of
the new one beside it, until the new task serves (or ended: then the slot has failed) and the delay
has passed since it began to run. The next slots follow at once; the monitored time only counts
failures, and the update is completed when the last new task has run that long. A slot whose new
task runs and has not served for SERVE_DEADLINE has failed, too. Slots whose outdated tasks ended by
themselves are taken like others; those of a global service whose nodes may get no task are held
back. `room` ends outdated tasks whose new ones no node takes beside them. The tasks show the
progress, so it survives any interruption; `Service.update_status` stores what they do not show.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from controller.brain.orchestrator.plan import AFTER_ALL, Plan, Vacancy
from controller.brain.orchestrator.room import passed_over
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
from pyswarm_core.indexes.in_place import awaits_in_place
from pyswarm_core.indexes.rollout import is_failure, is_first, is_made, is_outdated, serves
from pyswarm_core.indexes.tasks import ServiceTasks, is_desired, waits_for_node
from pyswarm_core.limits import PENDING_SHOWN, SERVE_DEADLINE
from pyswarm_core.objects import Service, Task, clipped
from pyswarm_core.specs import FailureAction, UpdateOrder
from pyswarm_core.state import State
from pyswarm_core.states import Availability, TaskState, UpdateState, is_terminal, occupies

_MESSAGE_SHOWN = 200
"""Bytes of a task's message in that of an update."""

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


class _HeldBack(NamedTuple):
    """Slots of a global service whose nodes may get no task now: their outdated tasks stay."""

    slots: Mapping[int, None]
    """All of them."""
    paused: Mapping[int, None]
    """Those of paused nodes: the update does not wait for them."""


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
        if not (left := _outdated_left(plan, tasks, seen, held)):
            return
        # Begun by an older version, which stored no status; or a node was paused during the update.
        status = begun(plan.service, unrecorded_base(plan.service), left, now)
        plan.record(replace(plan.service, update_status=status))
    if plan.is_paused or plan.waits_for:
        return
    seen = _without_held(plan.service, seen, held)
    progress = _whole(plan, state, seen, now)
    if _exceeds(plan, progress):
        _fail(plan, state, progress, now)
        return
    if _give_up(plan, tasks, seen, progress, now):
        plan.cut(AFTER_ALL)  # the next decision counts them
        return
    parallelism = plan.service.update_settings.parallelism
    room = _room(plan, progress)
    taken = _take(plan, tasks, seen, room, held)
    _forget_lost(plan, state, tasks)
    plan.step.room_left = (parallelism or AFTER_ALL) - progress.in_flight - taken
    if plan.step.without_node or plan.missing:
        plan.step.candidates = _next(plan, tasks, seen, held, PENDING_SHOWN)
    if taken or progress.in_flight or progress.limited or _is_left(plan, tasks, seen, held):
        if progress.free_at < NEVER:
            plan.wake_at(progress.free_at)
        return
    settings = plan.service.update_settings
    at = after(progress.last, max(settings.monitor, settings.delay)) if progress.last else now
    if at > now:
        plan.wake_at(at)
    else:
        _complete(plan, progress, now)


def _held_back(plan: Plan, state: State) -> _HeldBack:
    """The slots of a global service whose nodes may get no task now."""
    if not plan.service.spec.mode.per_node:
        return _HeldBack({}, {})
    table = state.node_table
    unfit = np.flatnonzero(~table.schedulable[: len(table.nodes)])
    nodes = [node for row in unfit.tolist() if (node := table.nodes[row]) is not None]
    paused = [node for node in nodes if node.spec.availability is Availability.PAUSE]
    plan.scanned += 8 * len(nodes)
    return _HeldBack(
        dict.fromkeys(node.number for node in nodes), dict.fromkeys(node.number for node in paused)
    )


def _without_held(
    service: Service, seen: Mapping[int, Slot], held: _HeldBack
) -> Mapping[int, Slot]:
    """The slots; those as empty that are held back with their outdated task, or with a new one that
    waits for a paused node.
    """
    if not held.slots:
        return seen
    found = dict(seen)
    for number, slot in seen.items():
        if number not in held.slots or slot.kind is not SlotKind.ACTIVE or slot.task is None:
            continue
        if is_outdated(service, slot.task) or (number in held.paused and waits_for_node(slot.task)):
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


def _whole(plan: Plan, state: State, seen: Mapping[int, Slot], now: Instant) -> UpdateProgress:
    """The progress in all slots, those to be made included."""
    tasks = state.tasks_of_service(plan.service.id)
    made = [number for number in plan.vacancies if number not in seen]
    found = UpdateProgress(len(made) + plan.missing)
    plan.step.without_node = {number: _lost_node(state, tasks, number) for number in made}
    for slot in seen.values():
        progress = _progress(plan, slot, now)
        is_leaving = slot.kind is SlotKind.STOPPING and slot.number in tasks.leaving
        if is_leaving or _waits_beside(plan, tasks, slot.number):
            progress = _NONE
        found = found.joined(progress)
        if progress.in_flight and _has_no_node(plan, state, slot):
            plan.step.without_node[slot.number] = _lost_node(state, tasks, slot.number)
        if slot.kind is SlotKind.ACTIVE and slot.task and awaits_in_place(plan.service, slot.task):
            found = found.joined(UpdateProgress(limited=1))
    rollout = tasks.rollout
    if rollout is None:
        return found
    plan.scanned += len(seen)
    failures, failed = rollout.failed(seen)
    in_flight = rollout.in_flight(seen)
    if plan.order is UpdateOrder.START_FIRST and plan.service.spec.mode.per_node and tasks.pending:
        others = [number for number in rollout.slots_in_flight() if number not in seen]
        in_flight -= sum(_waits_beside(plan, tasks, number) for number in others)
        plan.scanned += len(others)
    settings = plan.service.update_settings
    # As many as fill the room: the first of them to be over is the first to make some.
    waits = passed_over(plan, plan.step.without_node, plan.missing)
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


def _waits_beside(plan: Plan, tasks: ServiceTasks, number: int) -> bool:
    """Whether a stored new task of a global service waits for its node, and the outdated one runs
    on beside it: no other node's task can take its room.
    """
    service = plan.service
    if plan.order is not UpdateOrder.START_FIRST or not service.spec.mode.per_node:
        return False
    left = [task for task in tasks.slots.get(number, ()) if task.id not in plan.removed]
    left = [plan.changed.get(task.id, task) for task in left]
    return any(is_desired(task) and is_outdated(service, task) for task in left) and any(
        waits_for_node(task) and not is_outdated(service, task) for task in left
    )


def _has_no_node(plan: Plan, state: State, slot: Slot) -> bool:
    """Whether the slot's new task has yet to get a node, and no outdated one is beside it: none
    runs on, or is being stopped to make room.
    """
    if slot.number not in plan.vacancies and not (slot.task and waits_for_node(slot.task)):
        return False
    table, slots = state.node_table, state.tasks_of_service(plan.service.id).slots
    left = [task for task in slots.get(slot.number, ()) if task.id not in plan.removed]
    for task in [plan.changed.get(task.id, task) for task in left]:
        row = table.rows.get(task.node_id)
        stops = occupies(task.state) and row is not None and bool(table.schedulable[row])
        if (stops or is_desired(task)) and is_outdated(plan.service, task):
            return False
    return True


def _lost_node(state: State, tasks: ServiceTasks, number: int) -> bool:
    """Whether the slot has a task whose node may get none now."""
    rows, schedulable = state.node_table.rows, state.node_table.schedulable
    found = (rows.get(task.node_id) for task in tasks.slots.get(number, ()) if task.node_id)
    return any(row is None or not schedulable[row] for row in found)


def _is_left(plan: Plan, tasks: ServiceTasks, seen: Mapping[int, Slot], held: _HeldBack) -> bool:
    """Whether slots are left to be updated: also some whose outdated tasks ended by themselves."""
    return bool(_next(plan, tasks, seen, held, 1)) or _outdated_left(plan, tasks, seen, held) > 0


def _outdated_left(
    plan: Plan, tasks: ServiceTasks, seen: Mapping[int, Slot], held: _HeldBack
) -> int:
    """How many outdated tasks are desired after this decision, without those on paused nodes, and
    those beside new ones that failed.
    """
    ended = 0
    for task in (*plan.changed.values(), *plan.removed.values()):
        ends = task.id in plan.removed or not is_desired(task)
        if ends and is_outdated(plan.service, task):
            stored = tasks.slots.get(task.slot, ())
            ended += any(one.id == task.id and is_desired(one) for one in stored)
    stay = [task for task in _on_paused(tasks, held) if task.id not in plan.removed]
    stay = [task for task in stay if is_desired(task) and is_outdated(plan.service, task)]
    left = tasks.outdated - ended - sum(is_desired(plan.changed.get(t.id, t)) for t in stay)
    if left <= 0 or plan.order is UpdateOrder.STOP_FIRST:
        return left
    numbers = [number for number in {**tasks.unsettled, **seen} if number not in held.paused]
    plan.scanned += len(numbers)
    return left - sum(_beside_failed(plan, tasks, number) for number in numbers)


def _beside_failed(plan: Plan, tasks: ServiceTasks, number: int) -> int:
    """How many outdated tasks of the slot stay beside a new one that failed, until one serves."""
    service = plan.service
    left = [task for task in tasks.slots.get(number, ()) if task.id not in plan.removed]
    left = [plan.changed.get(task.id, task) for task in left]
    beside = sum(is_desired(task) and is_outdated(service, task) for task in left)
    if not beside:
        return 0
    if vacancy := plan.vacancies.get(number):
        return beside if vacancy.restarts or vacancy.failed_update else 0
    made = [task for task in left if is_made(service, task) and not is_outdated(service, task)]
    awaited = not made or (is_first(service, made[-1]) and is_desired(made[-1]))
    return 0 if awaited else beside


def _on_paused(tasks: ServiceTasks, held: _HeldBack) -> list[Task]:
    return [task for number in held.paused for task in tasks.slots.get(number, ())]


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
        if not is_late or not is_first(service, task):
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
    _decide_again(plan)
    plan.record(rolled)
    plan.report(EventKind.ROLLBACK, message)


def _decide_again(plan: Plan) -> None:
    """What was planned for the failed template is decided again."""
    plan.vacancies.clear()
    plan.pending.clear()
    plan.missing = 0
    plan.cut(0)


def pause(plan: Plan, reason: str, failures: int) -> None:
    """Pause the update or the rollback."""
    _decide_again(plan)
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


def _take(
    plan: Plan,
    tasks: ServiceTasks,
    seen: Mapping[int, Slot],
    room: int,
    held: _HeldBack,
) -> int:
    """Shut down the next outdated tasks, or make the new ones beside them or after them if they
    ended by themselves; return how many. None are made beside others while a task that is not
    bound to one waits for a node: they would wait too.
    """
    per_node = plan.service.spec.mode.per_node  # its tasks do not compete
    if plan.order is UpdateOrder.START_FIRST and not per_node:
        dropped = sum(waits_for_node(task) for task in plan.removed.values())
        if tasks.pending > dropped:
            plan.waits_for_room = True
            return 0
    most = min(room, max(1, plan.writes_left - len(plan.vacancies)))
    chosen = _next(plan, tasks, seen, held, most)
    for task in chosen:
        if plan.order is UpdateOrder.START_FIRST or not is_desired(task):
            node_id = task.node_id if per_node else NodeId("")
            why = (EventKind.TASK_REPLACED, "outdated")
            plan.vacancies[task.slot] = Vacancy(task.slot, plan.version, node_id=node_id, why=why)
            if not is_desired(task):
                plan.step.without_node[task.slot] = False
        else:
            shut_down(plan, task, "outdated")
    if len(chosen) == most < room:
        plan.cut(AFTER_ALL)
    return len(chosen)


def _forget_lost(plan: Plan, state: State, tasks: ServiceTasks) -> None:
    """Delete ended tasks of removed nodes: they filled slots that are filled anew now."""
    for task in (task for number in plan.vacancies for task in tasks.slots.get(number, ())):
        if is_terminal(task.state) and task.node_id not in state.nodes:
            plan.remove(task)


def _next(
    plan: Plan,
    tasks: ServiceTasks,
    seen: Mapping[int, Slot],
    held: _HeldBack,
    most: int,
) -> list[Task]:
    """The next outdated tasks, at most so many: first those that do not run."""
    outdated = [
        (int(slot.runs), slot.number, slot.task)
        for slot in seen.values()
        if slot.kind in _REPLACED and slot.task and is_outdated(plan.service, slot.task)
    ]
    if tasks.rollout is not None and most:
        found = tasks.rollout.next_outdated({**held.slots, **seen} if held.slots else seen, most)
        outdated += [(runs, number, tasks.slots[number][-1]) for runs, number in found]
    chosen = sorted(outdated, key=lambda entry: entry[:2])[:most]
    rollout = tasks.rollout
    return [
        task if number in seen or rollout is None else rollout.shown(tasks.slots[number])
        for _, number, task in chosen
    ]
