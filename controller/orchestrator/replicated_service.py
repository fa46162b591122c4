"""How many tasks a replicated service has. PURE.

Exactly `replicas` slots are filled. A new replica takes the lowest free slot. A surplus one leaves
where it hurts least: what does not run first, then from the node with most tasks of the service,
the highest slot on ties.
"""

import heapq
from collections.abc import Iterable

from controller.orchestrator.enforce import misplaced
from controller.orchestrator.plan import Plan, Vacancy
from controller.orchestrator.slots import Slot, discard, settle
from controller.orchestrator.update import advance, has_outdated
from pyswarm_core.clock import Instant
from pyswarm_core.decision import NoteKind
from pyswarm_core.ids import NodeId
from pyswarm_core.limits import PENDING_SHOWN
from pyswarm_core.state import ServiceTasks, State

_WANTED = (NoteKind.TASK_CREATED, "to have as many replicas as wanted")


def reconcile(
    plan: Plan, state: State, looked_at: Iterable[int], now: Instant, budget: int
) -> None:
    """Plan what a replicated service needs. `looked_at`: slots to look at, unsettled or not."""
    tasks = state.tasks_of_service(plan.service.id)
    mode = plan.service.spec.mode.replicated
    replicas = mode.replicas if mode else 0
    updating = has_outdated(plan, tasks)
    marked = dict.fromkeys((*looked_at, *misplaced(state, plan.service)))
    numbers = tasks.slots if updating else {**tasks.unsettled, **marked}
    slots: dict[int, Slot] = {}
    for number in sorted(numbers):
        if plan.written >= budget:
            plan.cut = True
            return
        slots[number] = settle(plan, state, number, now)
    empty = sum(not slot.filled for slot in slots.values())
    filled = len(tasks.slots) - empty
    if filled < replicas:
        room = max(budget - len(plan.vacancies), PENDING_SHOWN)
        created = min(replicas - filled, room)
        plan.missing = replicas - filled - created
        _fill(plan, tasks, slots, created)
    elif filled > replicas:
        for number in _shrink(plan, state, slots, filled - replicas, now):
            slots.pop(number, None)
    if updating:
        advance(plan, [slot for slot in slots.values() if slot.filled], now)


def _fill(plan: Plan, tasks: ServiceTasks, slots: dict[int, Slot], count: int) -> None:
    number = 0
    while count > 0:
        number += 1
        known = slots.get(number)
        if number in tasks.slots and (known is None or known.filled):
            continue
        plan.vacancies[number] = Vacancy(number, why=_WANTED)
        count -= 1


def _shrink(plan: Plan, state: State, seen: dict[int, Slot], count: int, now: Instant) -> list[int]:
    """Remove that many filled slots; return which."""
    tasks = state.tasks_of_service(plan.service.id)
    slots = [seen.get(number) or settle(plan, state, number, now) for number in tasks.slots]
    idle = sorted((slot.number for slot in slots if slot.filled and not slot.runs), reverse=True)
    surplus = idle[:count]
    surplus += _from_fullest([slot for slot in slots if slot.runs], count - len(surplus))
    for number in surplus:
        discard(plan, state, number, now)
    plan.note(NoteKind.TASK_SHUTDOWN, "more replicas than wanted", len(surplus))
    return surplus


def _from_fullest(running: list[Slot], count: int) -> list[int]:
    """The slots to give up: always of the node that has most left."""
    on_node: dict[NodeId, list[int]] = {}
    for slot in sorted(running):
        if slot.task:
            on_node.setdefault(slot.task.node_id, []).append(slot.number)
    heap = [(-len(numbers), -numbers[-1], numbers) for numbers in on_node.values()]
    heapq.heapify(heap)
    chosen: list[int] = []
    while len(chosen) < count and heap:
        numbers = heap[0][2]
        chosen.append(numbers.pop())
        if numbers:
            heapq.heapreplace(heap, (-len(numbers), -numbers[-1], numbers))
        else:
            heapq.heappop(heap)
    return chosen
