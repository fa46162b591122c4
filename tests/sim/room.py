"""A rule about the room that start-first updates need."""

from collections.abc import Iterator, Mapping

from pyswarm_core.indexes.tasks import waits_for_node
from pyswarm_core.objects import Service, Task
from pyswarm_core.specs import ServiceSpec, UpdateOrder
from pyswarm_core.states import Availability, NodeState
from tests.sim.checked import spec_of
from tests.sim.placement import satisfies, takes_instead
from tests.sim.rollout_states import is_new, is_rolling, settings
from tests.sim.view import View


def is_start_first(service: Service) -> bool:
    """Whether an update goes on that makes new tasks beside old ones."""
    return is_rolling(service) and settings(service).order is UpdateOrder.START_FIRST


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
            fits = fits and not node.description.max_tasks and _needs_no_more(service.spec)
            if fits and ready and node.spec.availability is Availability.ACTIVE:
                yield f"slot {number} of {service.spec.name} waits for the room of its old task"


def _needs_no_more(spec: ServiceSpec) -> bool:
    """Whether its tasks need nothing of a node but what they reserve."""
    template = spec.task_template
    needs = template.networks or spec.endpoint_spec.ports or template.placement.max_replicas
    return not needs
