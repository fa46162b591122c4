"""Rules about start-first updates: when an old task ends, and for what room."""

from collections.abc import Iterator, Mapping

from pyswarm_core.decision import Decision
from pyswarm_core.indexes.tasks import waits_for_node
from pyswarm_core.kinds import SERVICE
from pyswarm_core.objects import Service, Task
from pyswarm_core.specs import ServiceSpec, UpdateOrder
from pyswarm_core.state import State
from pyswarm_core.states import Availability, NodeState, TaskState
from tests.sim.checked import spec_of
from tests.sim.placement import Problem, satisfies, takes_instead
from tests.sim.rules import Rule
from tests.sim.updates import is_new, is_rolling, may_stay, serves, settings, should_run
from tests.sim.view import View


def is_start_first(service: Service) -> bool:
    """Whether an update goes on that makes new tasks beside old ones."""
    return is_rolling(service) and settings(service).order is UpdateOrder.START_FIRST


def problems(state: State, decision: Decision) -> Iterator[Problem]:
    """With start-first, an old task ends when the new one serves, or cannot be placed beside it."""
    written = {service.id: service for service in decision.writes.of(SERVICE)}
    for task in decision.writes.tasks:
        known = state.tasks.get(task.id)
        new = written.get(task.service_id) or state.services.get(task.service_id)
        if (
            known is None
            or new is None
            or new.removing
            or not is_start_first(new)
            or is_new(new, task)
            or not should_run(known)
            or task.desired_state is not TaskState.SHUTDOWN
            or not serves(known)
            or not may_stay(state, new, task)
        ):
            continue
        beside = [
            other
            for other in state.tasks_of_service(new.id).slots.get(task.slot, ())
            if is_new(new, other) and should_run(other)
        ]
        waits = not beside or any(other.state < TaskState.ASSIGNED for other in beside)
        if not waits and not any(map(serves, beside)):
            yield (
                Rule.START_FIRST,
                f"{task.id} of {new.spec.name} ends before the new task of its slot serves",
            )
        elif beside and waits and not makes_room(state, new, known):
            yield (
                Rule.START_FIRST,
                f"{task.id} of {new.spec.name} ends, and its node cannot take the new one either",
            )


def makes_room(state: State, service: Service, task: Task) -> bool:
    """Whether the task's node could take a new task of the service instead of it."""
    node = state.nodes[task.node_id]
    usable = node.spec.availability is Availability.ACTIVE
    others = [one for one in state.tasks_of_node(node.id).values() if one.id != task.id]

    def spec_of(one: Task) -> ServiceSpec | None:
        found = state.services.get(one.service_id)
        return found.made_from(one.spec_version) if found else None

    return usable and takes_instead(node, others, service.spec, spec_of)


def held_room(view: View, service: Service, desired: Mapping[int, list[Task]]) -> Iterator[str]:
    """A start-first update without room is stop-first: in the end no old task keeps the room that
    the new one of its slot waits for.
    """
    for number, tasks in desired.items() if is_start_first(service) else ():
        waits = any(waits_for_node(task) and is_new(service, task) for task in tasks)
        for task in tasks if waits else ():
            node = view.nodes.get(task.node_id)
            if is_new(service, task) or node is None or not satisfies(service.spec, node):
                continue
            ready = node.status.state is NodeState.READY
            others = view.tasks_of_node(node.id)
            del others[task.id]
            fits = takes_instead(
                node, others.values(), service.spec, lambda one: spec_of(one, view)
            )
            if fits and ready and node.spec.availability is Availability.ACTIVE:
                yield f"slot {number} of {service.spec.name} waits for the room of its old task"
