"""Ends outdated tasks of an update because their ends make room for new ones. PURE.

While tasks are placed, those that no node takes are known: then an outdated task may end earlier
than its update would end it (`controller/brain/freed.py` says whether that makes room).
"""

from collections.abc import Callable, Iterable

from controller.brain.orchestrator.enforce import misfit
from controller.brain.orchestrator.plan import AFTER_ALL, Plan
from controller.brain.orchestrator.slots import shut_down
from pyswarm_core.indexes.rollout import is_outdated
from pyswarm_core.indexes.tasks import is_desired
from pyswarm_core.objects import Service, Task
from pyswarm_core.specs import UpdateOrder
from pyswarm_core.state import State
from pyswarm_core.states import Availability, NodeState

_STOPPED_FIRST = "outdated; stopped first: no node takes the new task beside it"


def stop_instead(
    plan: Plan, state: State, slots: Iterable[int], makes_room: Callable[[Task], bool]
) -> None:
    """In a start-first update, end the outdated tasks of slots whose new task no node takes beside
    them: these slots are updated stop-first. An outdated task stays if its own node could not take
    the new one either: it is not ready, not active, against a constraint or too small. A slot of a
    global service that waited before is not in flight, and needs room to be.
    """
    service = plan.service
    if plan.order is not UpdateOrder.START_FIRST or plan.is_paused or not service.is_updating:
        return
    per_node = service.spec.mode.per_node
    for number in slots:
        new = number in plan.vacancies
        if per_node and new:
            plan.cut(AFTER_ALL)  # it is not in flight any more: another slot follows
        if per_node and not new and plan.step.room_left <= 0:
            continue
        for task in state.tasks_of_service(service.id).slots.get(number, ()):
            known = plan.changed.get(task.id, task)
            if task.id in plan.removed or not _gives_way(state, service, known):
                continue
            if makes_room(task):
                plan.step.room_left -= per_node and not new
                shut_down(plan, known, _STOPPED_FIRST)
                plan.cut(0)  # some room is free at once: the maximum per node


def _gives_way(state: State, service: Service, task: Task) -> bool:
    """Whether the task is outdated, should run, and its node takes tasks of the service."""
    node = state.nodes.get(task.node_id)
    return (
        is_desired(task)
        and node is not None
        and node.status.state is NodeState.READY
        and node.spec.availability is Availability.ACTIVE
        and is_outdated(service, task)
        and not misfit(state, service, task)
    )


def go_on(
    plan: Plan, waiting: Iterable[int], missing: int, makes_room: Callable[[Task], bool]
) -> None:
    """Slots whose new tasks no node takes are not in flight for outdated tasks that make room for
    one (see `passed_over`): these end, and as many tasks run as before. `missing`: how many more
    are to be made.
    """
    others = passed_over(plan, waiting, missing)
    if not others or not plan.step.candidates:
        return
    room = plan.step.room_left + others
    for task in plan.step.candidates:
        known = plan.changed.get(task.id, task)
        if room <= 0:
            break
        ends = task.id not in plan.removed and is_desired(known) and makes_room(task)
        if task.slot in plan.vacancies:  # its new task was to be made beside it just now
            if ends and not plan.service.spec.mode.per_node:
                plan.cut(AFTER_ALL)  # those that wait are stored then: none is made beside it
            continue
        if ends:
            first = plan.order is UpdateOrder.START_FIRST
            shut_down(plan, known, _STOPPED_FIRST if first else "outdated")
            plan.cut(0)  # some room is free at once: the maximum per node
            room -= 1


def passed_over(plan: Plan, slots: Iterable[int], missing: int) -> int:
    """How many of these slots do not hold up the others though they lack a node: those that lost
    theirs, and as many as waited when the update began. Were it all, other services that take the
    room which its outdated tasks give up would cost it every task.
    """
    lost = [plan.step.without_node[number] for number in slots if number in plan.step.without_node]
    status = plan.service.update_status
    waited = status.waiting if status is not None else 0
    return sum(lost) + min(len(lost) - sum(lost) + missing, waited)
