"""Which outdated task is replaced next. PURE.

One slot at a time. With stop-first, the old task ends before the new one starts; with start-first,
the new one is made beside it, and `slots` ends the old one once the new one runs. The tasks show
the progress of an update, so it survives any interruption. A failing template affects one slot
only: the next slot is updated when every new task runs, one of them has run for UPDATE_MONITOR, and
those that had to be restarted have run that long too.
"""

from collections.abc import Iterable, Mapping

from controller.brain.orchestrator.plan import Plan, Vacancy
from controller.brain.orchestrator.slots import Slot, SlotKind, is_outdated, shut_down
from pyswarm_core.clock import NEVER, Instant, after
from pyswarm_core.decision import EventKind, Proof
from pyswarm_core.ids import NodeId
from pyswarm_core.indexes.tasks import ServiceTasks
from pyswarm_core.limits import UPDATE_MONITOR
from pyswarm_core.objects import Task
from pyswarm_core.specs import UpdateOrder


def prove(plan: Plan, slots: Iterable[Slot]) -> None:
    """Add the proof of these slots, which were looked at, to the plan's."""
    for slot in slots:
        plan.proof = plan.proof.joined(_proof(plan, slot))


def advance(plan: Plan, tasks: ServiceTasks, seen: Mapping[int, Slot], now: Instant) -> None:
    """At the end of a round, shut down the next outdated task or make the new one beside it, if it
    is due. `seen`: the slots that this decision looked at; `plan.proof` covers them and those
    before them.
    """
    outdated = [
        (slot.runs, slot.number, slot.task)
        for slot in seen.values()
        if slot.kind is SlotKind.ACTIVE and slot.task and is_outdated(plan, slot.task)
    ]
    outdated += _glance(plan, tasks, seen)
    if not outdated or plan.proof.waits:
        return
    at = max(plan.proof.restarted, plan.proof.first) if plan.proof.first < NEVER else now
    if at > now:
        plan.wake_at(at)
        return
    _, _, task = min(outdated, key=lambda entry: entry[:2])
    if plan.order is UpdateOrder.START_FIRST:
        node_id = task.node_id if plan.service.spec.mode.per_node else NodeId("")
        why = (EventKind.TASK_REPLACED, "outdated")
        plan.vacancies[task.slot] = Vacancy(task.slot, plan.version, node_id=node_id, why=why)
    else:
        shut_down(plan, task, "outdated")


def _proof(plan: Plan, slot: Slot) -> Proof:
    waits = slot.kind in (SlotKind.STOPPING, SlotKind.VACANT)
    task = slot.task
    if task is None or is_outdated(plan, task):
        return Proof(waits)
    if not slot.runs and slot.kind is not SlotKind.COMPLETED:
        return Proof(waits=True)
    at = after(task.status_at, UPDATE_MONITOR) if slot.runs else task.status_at
    return Proof(waits, at, at if task.restarts else Instant(0))


def _glance(
    plan: Plan, tasks: ServiceTasks, seen: Mapping[int, Slot]
) -> list[tuple[bool, int, Task]]:
    """The next outdated task of the slots that this decision did not look at, if there is one. The
    proof of settled slots is added to the plan's.
    """
    rollout = tasks.rollout
    if rollout is None:
        return []
    plan.scanned += len(seen)
    first, restarted = rollout.running_since(seen), rollout.restarted_at(seen)
    proven = after(restarted, UPDATE_MONITOR) if restarted else restarted
    found = Proof(rollout.is_starting(seen), after(first, UPDATE_MONITOR), proven)
    plan.proof = plan.proof.joined(found)
    outdated = rollout.next_outdated(seen)
    if outdated is None:
        return []
    runs, number = outdated
    return [(bool(runs), number, tasks.slots[number][-1])]
