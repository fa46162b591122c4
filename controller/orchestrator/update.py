"""Which outdated task is replaced next. PURE.

One slot at a time, the old task ended before the new one starts. How far an update has come is read
from the tasks, so it survives any interruption. A template that fails takes down one slot and no
more: the next slot waits until every new task runs, until one of them has run for UPDATE_MONITOR,
and until those that had to be restarted have done so too.
"""

from collections.abc import Sequence

from controller.orchestrator.plan import Plan
from controller.orchestrator.slots import Slot, SlotKind, is_outdated, shut_down
from pyswarm_core.clock import Instant, after
from pyswarm_core.limits import UPDATE_MONITOR
from pyswarm_core.objects import Task
from pyswarm_core.state import ServiceTasks


def has_outdated(plan: Plan, tasks: ServiceTasks) -> bool:
    """Whether any task that should run was made from an older template."""
    current = plan.service.template_version
    return any(version < current for version in tasks.versions)


def advance(plan: Plan, slots: Sequence[Slot], now: Instant) -> None:
    """Shut down the next outdated task, if it is time. `slots` are all slots of the service."""
    outdated = [
        (slot.runs, slot.number, slot.task)
        for slot in slots
        if slot.kind is SlotKind.ACTIVE and slot.task and is_outdated(plan, slot.task)
    ]
    if not outdated or not _may_go_on(plan, slots, now):
        return
    _, _, task = min(outdated, key=lambda entry: entry[:2])
    shut_down(plan, task, "outdated")


def _may_go_on(plan: Plan, slots: Sequence[Slot], now: Instant) -> bool:
    if any(slot.kind in (SlotKind.STOPPING, SlotKind.VACANT) for slot in slots):
        return False
    new = [(slot, slot.task) for slot in slots if slot.task and not is_outdated(plan, slot.task)]
    if not all(slot.runs or slot.kind is SlotKind.COMPLETED for slot, _ in new):
        return False
    proven_at = [_proven_at(slot, task) for slot, task in new]
    restarted = [at for at, (_, task) in zip(proven_at, new, strict=True) if task.restarts]
    wait = max([*restarted, min(proven_at)]) if proven_at else now
    if wait > now:
        plan.wake_at(wait)
        return False
    return True


def _proven_at(slot: Slot, task: Task) -> Instant:
    return after(task.status_at, UPDATE_MONITOR) if slot.runs else task.status_at
