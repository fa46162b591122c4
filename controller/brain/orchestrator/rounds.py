"""A round over the slots of a service, in as many decisions as it needs. PURE.

A service may have a hundred thousand unsettled slots. A decision looks at as many as it has room
for, in order, and sets the cursor at which the next decision continues.
"""

from collections.abc import Iterable

from controller.brain.orchestrator.enforce import misfit, misplaced
from controller.brain.orchestrator.plan import AFTER_ALL, Plan
from controller.brain.orchestrator.slots import Slot, SlotKind, settle
from controller.brain.volumework import displaced
from pyswarm_core.clock import Instant
from pyswarm_core.indexes.tasks import is_desired, waits_for_node
from pyswarm_core.limits import PENDING_SHOWN, WRITE_COST
from pyswarm_core.state import State


def to_settle(plan: Plan, state: State, marked: Iterable[int]) -> list[int]:
    """The slots to look at: those that are marked, on wrong nodes or held by a volume, and of the
    unsettled ones those that this round has yet to look at. Of a stopped service, all slots.
    """
    if plan.service.spec.stopped:
        return in_round(plan, state.tasks_of_service(plan.service.id).slots)
    most = plan.room // WRITE_COST
    wrong, is_all = misplaced(state, plan.service, most)
    held, is_all_held = displaced(state, plan.service, most)
    if not is_all or not is_all_held:
        plan.cut(AFTER_ALL)
    unsettled = state.tasks_of_service(plan.service.id).unsettled
    return in_round(plan, unsettled, (*marked, *wrong, *held))


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


def settle_waiting(plan: Plan, state: State, slots: dict[int, Slot], now: Instant) -> None:
    """In the last part of a round during an update, settle again those slots in flight that lack a
    node, at most PENDING_SHOWN: an earlier part did, and the update's next step depends on them.
    Slots of a global service whose node keeps no task are empty, without a limit.
    """
    tasks = state.tasks_of_service(plan.service.id)
    if tasks.rollout is None or not plan.cursor.slot:
        return
    others = [number for number in tasks.rollout.slots_in_flight() if number not in slots]
    plan.scanned += 8 * len(others)
    left = PENDING_SHOWN
    for number in others:
        shown = tasks.rollout.shown(tasks.slots[number])
        is_evicted = not is_desired(shown) and bool(misfit(state, plan.service, shown))
        if is_evicted and plan.service.spec.mode.per_node:
            slots[number] = Slot(number, SlotKind.EMPTY)
        elif left and (is_evicted or waits_for_node(shown)):
            slots[number] = settle(plan, state, number, now)
            left -= 1
