"""How many tasks a replicated service has. PURE.

Exactly `replicas` slots are filled. A new replica takes the lowest free slot. Surplus replicas are
removed in this order: first those that do not run, then from the node with most tasks of the
service, the highest slot on ties.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from controller.brain.mounts import is_per_task, slots_at_once
from controller.brain.orchestrator.plan import AFTER_ALL, Plan, Vacancy
from controller.brain.orchestrator.rounds import settle_waiting, settled, to_settle
from controller.brain.orchestrator.slots import Slot, SlotKind, discard
from controller.brain.orchestrator.update import advance
from controller.brain.volumes import writes_alone
from pyswarm_core.clock import Instant
from pyswarm_core.decision import EventKind
from pyswarm_core.ids import NodeId
from pyswarm_core.indexes.tasks import ServiceTasks
from pyswarm_core.limits import PENDING_SHOWN, SURPLUS_CHOSEN
from pyswarm_core.objects import Service
from pyswarm_core.specs import ContainerMode, ReplicatedMode
from pyswarm_core.state import State
from pyswarm_core.states import TaskState

_RUNNING = TaskState.RUNNING
_TOO_FEW = (EventKind.TASK_CREATED, "fewer replicas than desired")


def reconcile(plan: Plan, state: State, looked_at: Iterable[int], now: Instant) -> None:
    """Plan what a replicated service needs. `looked_at`: slots to look at, unsettled or not.

    If there are many unsettled slots, a decision looks at some; the number of replicas is compared
    with the desired number after the last of them.
    """
    tasks = state.tasks_of_service(plan.service.id)
    replicas = _replicas(plan.service)
    is_updating = plan.service.is_updating or tasks.rollout is not None
    slots = settled(plan, state, to_settle(plan, state, looked_at), now)
    if plan.is_cut:
        return
    if plan.service.spec.stopped:
        return  # its update goes on once it is started
    settle_waiting(plan, state, slots, now)
    empty = len(tasks.leaving)
    empty += sum(not slot.filled for slot in slots.values() if slot.number not in tasks.leaving)
    filled, given_up = len(tasks.slots) - empty, list[int]()
    missing = replicas - filled - len(tasks.crowded)
    if missing > 0:
        plan.scanned += len(tasks.slots)
        room = max(plan.writes_left - len(plan.vacancies), PENDING_SHOWN)
        if is_per_task(template := plan.service.spec.task_template):
            room = slots_at_once(template)  # the nodes of the first may be down, of others not
        plan.missing = max(0, missing - room)
        _fill(plan, state, slots, missing - plan.missing)
    elif filled > replicas:
        given_up = _shrink(plan, state, slots, filled - replicas, now)
        slots.update((number, Slot(number, SlotKind.EMPTY)) for number in given_up)
    if filled - len(given_up) <= replicas and is_updating:
        advance(plan, state, slots, now)


def desired_text(service: Service) -> str:
    """How many tasks it should have, for people."""
    text = f"{_replicas(service)} desired"
    return f"stopped; {text} once it is started" if service.spec.stopped else text


def desired(state: State, service: Service) -> int:
    """How many tasks should run."""
    return 0 if service.spec.stopped else _replicas(service)


def desired_slots(state: State, service: Service) -> None:
    """Any slots may be filled."""


def unlisted(state: State, service: Service, desired: int) -> int:
    """How many of the desired tasks wait for a node without being stored."""
    return max(0, desired - len(state.tasks_of_service(service.id).slots))


def _replicas(service: Service) -> int:
    mode = service.spec.mode
    assert isinstance(mode, ReplicatedMode | ContainerMode)
    return mode.replicas


def _fill(plan: Plan, state: State, slots: dict[int, Slot], count: int) -> None:
    """Make a task in as many slots; in none whose removed task may still write to volumes."""
    tasks = state.tasks_of_service(plan.service.id)
    kept = tasks.leaving if writes_alone(state, plan.service) else tasks.crowded
    number = 0
    while count > 0:
        number += 1
        known = slots.get(number)
        if number in tasks.leaving:
            free = number not in kept
        else:
            free = number not in tasks.slots or (known is not None and not known.filled)
        if free and number not in plan.vacancies:
            plan.vacancies[number] = Vacancy(number, plan.version, why=_TOO_FEW)
            count -= 1


def _shrink(
    plan: Plan, state: State, seen: Mapping[int, Slot], count: int, now: Instant
) -> list[int]:
    """Remove `count` filled slots, or as many as there is room for; return which."""
    tasks = state.tasks_of_service(plan.service.id)
    chosen = [one for one in plan.cursor.surplus if one in tasks.slots and one not in tasks.leaving]
    surplus = (chosen or _surplus(plan, tasks, seen, min(count, SURPLUS_CHOSEN)))[:count]
    given_up: list[int] = []
    for number in surplus:
        if given_up and plan.is_full:
            plan.surplus = tuple(surplus[len(given_up) :])
            break
        discard(plan, state, number, now)
        given_up.append(number)
    if len(given_up) < count:
        plan.cut(AFTER_ALL)
    plan.report(EventKind.TASK_SHUTDOWN, "more replicas than desired", len(given_up))
    return given_up


def _surplus(plan: Plan, tasks: ServiceTasks, seen: Mapping[int, Slot], count: int) -> list[int]:
    """The slots to remove, in order. Scans all slots."""
    idle: list[int] = []
    running: list[int] = []
    nodes: list[NodeId] = []
    for number, held in tasks.slots.items():
        if number in tasks.leaving:
            continue
        if number in seen:
            known = seen[number]
            if not known.filled:
                continue
            task = known.task if known.runs else None
        else:
            newest = held[-1]
            task = newest if newest.state is _RUNNING and newest.desired_state <= _RUNNING else None
        if task is None:
            idle.append(number)
        else:
            running.append(number)
            nodes.append(task.node_id)
    plan.scanned += len(tasks.slots)
    surplus = sorted(idle, reverse=True)[:count]
    return surplus + _from_fullest(running, nodes, count - len(surplus))


def _from_fullest(slots: list[int], nodes: list[NodeId], count: int) -> list[int]:
    """The running slots to remove: each time the highest slot of the node that has most left.

    Those are the slots with most slots of the same node below them, the highest on ties.
    """
    if count <= 0 or not slots:
        return []
    code_of = {node_id: code for code, node_id in enumerate(dict.fromkeys(nodes))}
    numbers = np.array(slots, np.int64)
    codes = np.array([code_of[node_id] for node_id in nodes], np.int64)
    order = np.lexsort((numbers, codes))
    numbers, codes = numbers[order], codes[order]
    begins = np.searchsorted(codes, np.arange(len(code_of)))
    below = np.arange(len(codes)) - begins[codes]
    fullest = np.lexsort((numbers, below))[::-1][:count]
    return [int(number) for number in numbers[fullest]]
