"""A round over the slots of a service, in as many decisions as it needs. PURE.

A service may have a hundred thousand unsettled slots. A decision looks at as many as it has room
for, in order, and sets the cursor at which the next decision continues.
"""

from collections.abc import Iterable

from controller.brain.orchestrator.enforce import misplaced
from controller.brain.orchestrator.plan import AFTER_ALL, Plan
from controller.brain.orchestrator.slots import Slot, settle
from pyswarm_core.clock import Instant
from pyswarm_core.limits import WRITE_COST
from pyswarm_core.state import State


def to_settle(plan: Plan, state: State, marked: Iterable[int]) -> list[int]:
    """The slots to look at: those that are marked or on wrong nodes, and of the unsettled ones
    those that this round has yet to look at. Of a stopped service, all slots.
    """
    if plan.service.spec.stopped:
        return in_round(plan, state.tasks_of_service(plan.service.id).slots)
    wrong, is_all = misplaced(state, plan.service, plan.room // WRITE_COST)
    if not is_all:
        plan.cut(AFTER_ALL)
    return in_round(plan, state.tasks_of_service(plan.service.id).unsettled, (*marked, *wrong))


def in_round(plan: Plan, slots: Iterable[int], marked: Iterable[int] = ()) -> list[int]:
    """Those of the slots that this round has yet to look at, and all that are marked; in order."""
    begin = plan.cursor.slot
    left = {number: None for number in slots if number >= begin} if begin else dict.fromkeys(slots)
    left.update(dict.fromkeys(marked))
    return sorted(left)


def settled(plan: Plan, state: State, numbers: Iterable[int], now: Instant) -> dict[int, Slot]:
    """Settle these slots while there is room."""
    slots: dict[int, Slot] = {}
    for number in numbers:
        if plan.is_full:
            plan.cut(number)
            break
        slots[number] = settle(plan, state, number, now)
    return slots
