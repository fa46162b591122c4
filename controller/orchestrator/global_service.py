"""On which nodes a global service has its task. PURE.

One task on every node that is ready, active and satisfies the constraints; the node's number is the
slot. A paused node keeps its task and gets no new one; a drained or lost node keeps none.
"""

from collections.abc import Iterable

import numpy as np
from msgspec.structs import replace

from controller.orchestrator.enforce import misplaced
from controller.orchestrator.plan import Plan, Vacancy
from controller.orchestrator.slots import Slot, SlotKind, settle
from controller.orchestrator.update import advance, has_outdated
from pyswarm_core.clock import Instant
from pyswarm_core.decision import NoteKind
from pyswarm_core.ids import NodeId
from pyswarm_core.state import State


def reconcile(
    plan: Plan, state: State, looked_at: Iterable[int], now: Instant, budget: int
) -> None:
    """Plan what a global service needs. `looked_at`: slots to look at, unsettled or not."""
    tasks = state.tasks_of_service(plan.service.id)
    eligible = _eligible(plan, state)
    updating = has_outdated(plan, tasks)
    marked = dict.fromkeys((*looked_at, *misplaced(state, plan.service)))
    numbers = tasks.slots if updating else {**tasks.unsettled, **marked}
    slots: dict[int, Slot] = {}
    for number in sorted(numbers):
        if len(plan.vacancies) >= budget:
            plan.cut = True
            return
        slot = settle(plan, state, number, now)
        bound = _bind(plan, eligible, number)
        slots[number] = slot if bound else Slot(number, SlotKind.EMPTY)
    missing = [
        number
        for number in sorted(eligible)
        if number not in plan.vacancies
        and (number not in tasks.slots or (number in slots and not slots[number].filled))
    ]
    room = budget - len(plan.vacancies)
    plan.cut = len(missing) > room
    for number in missing[:room]:
        plan.vacancies[number] = Vacancy(number, node_id=eligible[number])
    if missing:
        plan.note(NoteKind.TASK_CREATED, "one on every eligible node", len(missing[:room]))
    if updating:
        advance(plan, [slot for slot in slots.values() if slot.filled], now)


def _eligible(plan: Plan, state: State) -> dict[int, NodeId]:
    table = state.node_table
    rows = table.schedulable & table.satisfying_all(
        plan.service.spec.task_template.placement.constraints
    )
    return {int(table.number[row]): table.ids[row] for row in np.flatnonzero(rows).tolist()}


def _bind(plan: Plan, eligible: dict[int, NodeId], number: int) -> bool:
    """A vacancy belongs to its slot's node; return False if that node may get none."""
    vacancy = plan.vacancies.get(number)
    if vacancy is None:
        return True
    if number in eligible:
        plan.vacancies[number] = replace(vacancy, node_id=eligible[number])
        return True
    del plan.vacancies[number]
    return False
