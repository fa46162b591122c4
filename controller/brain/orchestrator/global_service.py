"""On which nodes a global service has its task. PURE.

One task runs on every node that is ready, active and satisfies the constraints; the node's number
is the slot. A paused node keeps its task, also an outdated one, and gets no new one; a drained or
lost node keeps none.
"""

from collections.abc import Collection, Iterable

import numpy as np
from msgspec.structs import replace

from controller.brain.orchestrator.plan import Plan, Vacancy
from controller.brain.orchestrator.rounds import settle_waiting, settled, to_settle
from controller.brain.orchestrator.slots import Slot, SlotKind
from controller.brain.orchestrator.update import advance
from pyswarm_core.clock import Instant
from pyswarm_core.decision import EventKind
from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.indexes.nodes import BoolColumn
from pyswarm_core.indexes.rollout import is_outdated
from pyswarm_core.objects import Service
from pyswarm_core.state import State
from pyswarm_core.states import TaskState

_ELIGIBLE = (EventKind.TASK_CREATED, "one on every eligible node")


def lacking(state: State, changed: Iterable[NodeId]) -> dict[ServiceId, dict[int, None]]:
    """By global service, the slots of the nodes that changed which may lack their task, or have an
    outdated one: it stayed while the node was paused.
    """
    table = state.node_table
    numbers: dict[ServiceId, dict[int, None]] = {}
    rows = [table.rows[node_id] for node_id in changed if node_id in table.rows]
    for row in [row for row in rows if table.schedulable[row]]:
        number = int(table.number[row])
        for service_id in state.global_services:
            tasks = state.tasks_of_service(service_id)
            if state.services[service_id].spec.stopped:
                continue
            if number in tasks.slots and number not in tasks.unsettled:
                newest = tasks.slots[number][-1]
                if tasks.rollout is None or not is_outdated(state.services[service_id], newest):
                    continue
            placement = state.services[service_id].spec.task_template.placement
            try:
                fits = all(table.satisfying(one)[row] for one in placement.constraints)
            except Exception:
                fits = True  # deciding it fails in the same way, and names the service
            if fits:
                numbers.setdefault(service_id, {})[number] = None
    return numbers


def reconcile(plan: Plan, state: State, looked_at: Iterable[int], now: Instant) -> None:
    """Plan what a global service needs. `looked_at`: slots to look at, unsettled or not.

    For a `plan.partial` service, these are the only ones. If there are many unsettled slots, a
    decision looks at some; nodes without their slot are found after the last of them.
    """
    tasks = state.tasks_of_service(plan.service.id)
    updating = plan.service.is_updating or tasks.rollout is not None
    is_stopped = plan.service.spec.stopped
    partial = plan.partial and not updating and not is_stopped
    marked = dict.fromkeys(looked_at)
    eligible = {} if is_stopped else _eligible(plan, state, marked if partial else None)
    if partial:
        numbers = sorted(number for number in marked if number in tasks.slots)
    else:
        numbers = to_settle(plan, state, marked)
    slots = settled(plan, state, numbers, now)
    plan.scanned += 2 * len(eligible)
    if updating and not is_stopped and not plan.is_cut:
        settle_waiting(plan, state, slots, now)
    if partial and plan.is_cut:
        plan.cut(0)  # the service becomes dirty: all its unsettled slots are looked at
    for number in tuple(slots):
        if not _bind(plan, eligible, number):
            slots[number] = Slot(number, SlotKind.EMPTY)
    lacking = {number for number, slot in slots.items() if not slot.filled}
    if not plan.is_cut:
        plan.seeks_lacking, begin = True, plan.cursor.lacking
        lacking.update(one for one in eligible if one >= begin and one not in tasks.slots)
    plan.scanned += 8 * len(lacking)  # each becomes a vacancy, and is compared with its node
    for number in sorted(lacking & eligible.keys() - plan.vacancies.keys()):
        plan.vacancies[number] = Vacancy(
            number, plan.version, node_id=eligible[number], why=_ELIGIBLE
        )
    if updating and not is_stopped and not plan.is_cut:
        advance(plan, state, slots, now)


def desired_text(service: Service) -> str:
    """How many tasks it should have, for people."""
    text = "one on every eligible node"
    return f"stopped; {text} once it is started" if service.spec.stopped else text


def desired(state: State, service: Service) -> int:
    """How many tasks should run: one on each eligible node, and those that paused nodes keep."""
    if service.spec.stopped:
        return 0
    table = state.node_table
    should_run = _eligible_rows(state, service)
    rows = [table.rows.get(node_id) for node_id in state.tasks_of_service(service.id).placed]
    should_run[[row for row in rows if row is not None]] = True
    return int(np.count_nonzero(should_run))


def desired_slots(state: State, service: Service) -> Collection[int]:
    """The slots of eligible nodes, and those with a task that should run."""
    if service.spec.stopped:
        return ()
    table = state.node_table
    slots = dict.fromkeys(table.number[_eligible_rows(state, service)].tolist())
    for slot, tasks in state.tasks_of_service(service.id).slots.items():
        if any(task.desired_state <= TaskState.RUNNING for task in tasks):
            slots[slot] = None
    return slots


def unlisted(state: State, service: Service, desired: int) -> int:
    """How many of the desired tasks wait for a node without being stored."""
    tasks = state.tasks_of_service(service.id)
    return max(0, desired - tasks.pending - sum(tasks.placed.values()))


def _eligible_rows(state: State, service: Service) -> BoolColumn:
    table = state.node_table
    constraints = service.spec.task_template.placement.constraints
    return table.schedulable & table.satisfying_all(constraints)


def _eligible(plan: Plan, state: State, only: Iterable[int] | None) -> dict[int, NodeId]:
    """The nodes that should have a task, by number; with `only`, of these numbers alone."""
    table = state.node_table
    constraints = plan.service.spec.task_template.placement.constraints
    if only is None:
        rows = np.flatnonzero(_eligible_rows(state, plan.service)).tolist()
    else:
        nodes = [state.node_of_number[number] for number in only if number in state.node_of_number]
        rows = [table.rows[node_id] for node_id in nodes]
        rows = [row for row in rows if table.schedulable[row]]
        rows = [row for row in rows if all(table.satisfying(one)[row] for one in constraints)]
    return {int(table.number[row]): table.ids[row] for row in rows}


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
