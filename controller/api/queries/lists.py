"""The lists: services, tasks, nodes and networks that pass the filters, in a steady order. PURE.

A list is made in slices. First the ids of what passes, in order; each object is then shown as it is
when its turn comes. Every list is bounded: past LIST_MAX objects the caller is asked to narrow it,
instead of being sent a part that looks like all.
"""

from collections.abc import Iterator, Mapping, Sequence
from heapq import merge
from typing import TypeVar

import msgspec

from controller.api.changes.unreadable import unreadable_services
from controller.api.queries import filters
from controller.api.queries.filters import Filters, Key
from controller.api.queries.lookup import find_node, find_service, find_task, task_name
from controller.brain.slices import Slices, batches
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.ids import NetworkId, NodeId, ServiceId, TaskId
from pyswarm_core.limits import LIST_MAX, REFS_MAX, SLICE_TASKS
from pyswarm_core.objects import Network, Node, Service, Task
from pyswarm_core.specs import ROLES
from pyswarm_core.state import State
from pyswarm_core.states import DESIRED_STATES, Availability, NodeState, TaskState

T = TypeVar("T")

_SERVICE_KEYS: dict[str, Key[Service]] = {
    "id": Key(lambda service, value: service.id.startswith(value)),
    "name": Key(lambda service, value: service.spec.name.startswith(value)),
    "label": Key(lambda service, value: filters.has_label(service.spec.labels, value)),
    "mode": Key(lambda service, value: mode_of(service) == value, ("replicated", "global")),
}
_NODE_KEYS: dict[str, Key[Node]] = {
    "id": Key(lambda node, value: node.id.startswith(value)),
    "name": Key(lambda node, value: node.description.hostname.startswith(value)),
    "label": Key(lambda node, value: filters.has_label(node.description.engine_labels, value)),
    "node.label": Key(lambda node, value: filters.has_label(node.spec.labels, value)),
    "membership": Key(lambda _, value: value == "accepted", ("accepted", "pending")),
    "role": Key(lambda node, value: node.spec.role == value, ROLES),
    "availability": Key(lambda node, value: node.spec.availability == value, tuple(Availability)),
    "status": Key(lambda node, value: node.status.state == value, tuple(NodeState)),
}
_NETWORK_KEYS: dict[str, Key[Network]] = {
    "id": Key(lambda network, value: network.id.startswith(value)),
    "name": Key(lambda network, value: value in network.spec.name),
    "label": Key(lambda network, value: filters.has_label(network.spec.labels, value)),
    "driver": Key(lambda network, value: network.spec.driver == value),
    "scope": Key(lambda _, value: value == "swarm", ("swarm", "global", "local")),
    "type": Key(lambda _, value: value == "custom", ("custom", "builtin")),
}


class Named(msgspec.Struct, frozen=True):
    """A task as its filters see it."""

    state: State
    task: Task


def _service_is(item: Named, ref: str) -> bool:
    service = item.state.services.get(item.task.service_id)
    return item.task.service_id.startswith(ref) or bool(service and service.spec.name == ref)


def _node_is(item: Named, ref: str) -> bool:
    node = item.state.nodes.get(item.task.node_id)
    return node is not None and (node.id.startswith(ref) or node.description.hostname == ref)


def _labelled(item: Named, wanted: str) -> bool:
    service = item.state.services.get(item.task.service_id)
    template = service.template(item.task.spec_version) if service else None
    return template is not None and filters.has_label(template.container_spec.labels, wanted)


_STATE_WORDS = tuple(state.word for state in TaskState)
_TASK_KEYS: dict[str, Key[Named]] = {
    "id": Key(lambda item, value: item.task.id.startswith(value)),
    "name": Key(lambda item, value: task_name(item.state, item.task).startswith(value)),
    "label": Key(_labelled),
    "service": Key(_service_is),
    "node": Key(_node_is),
    "desired-state": Key(
        # Docker's third word; a task is accepted while it is on its way to running.
        lambda item, value: item.task.desired_state.word == value.replace("accepted", "ready"),
        (*(state.word for state in DESIRED_STATES), "accepted"),
    ),
    "state": Key(lambda item, value: item.task.state.word == value, _STATE_WORDS),
}


def mode_of(service: Service) -> str:
    """`replicated` or `global`."""
    return "replicated" if service.spec.mode.global_ is None else "global"


class TaskQuery(msgspec.Struct, frozen=True):
    """Whose tasks: of any of these services, on any of these nodes, or these; empty is all."""

    services: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()


def find_services(state: State, wanted: Sequence[str]) -> Slices[list[ServiceId]]:
    """Services that are not being removed, by name, and those that cannot be read."""
    left = [service for service in state.services.values() if not service.removing]
    left += unreadable_services(state)
    parsed = filters.parse(wanted, _SERVICE_KEYS, "service")
    found = yield from _passing(left, parsed, _SERVICE_KEYS)
    return [service.id for service in sorted(found, key=lambda service: service.spec.name)]


def find_nodes(state: State, wanted: Sequence[str]) -> Slices[list[NodeId]]:
    """Nodes in the order in which they joined."""
    nodes = list(state.nodes.values())
    parsed = filters.parse(wanted, _NODE_KEYS, "node")
    found = yield from _passing(nodes, parsed, _NODE_KEYS)
    return [node.id for node in sorted(found, key=lambda node: node.number)]


def find_networks(state: State, wanted: Sequence[str]) -> Slices[list[NetworkId]]:
    """Networks by name."""
    networks = list(state.networks.values())
    parsed = filters.parse(wanted, _NETWORK_KEYS, "network")
    found = yield from _passing(networks, parsed, _NETWORK_KEYS)
    return [network.id for network in sorted(found, key=lambda network: network.spec.name)]


def find_tasks(state: State, query: TaskQuery) -> Slices[list[TaskId]]:
    """Tasks by service and slot, the newest of a slot first.

    Raises NotFound for a ref that names nothing, InvalidArgument for more than LIST_MAX tasks or
    more than REFS_MAX refs.
    """
    refs = len(query.services) + len(query.nodes) + len(query.tasks)
    if refs > REFS_MAX:
        raise InvalidArgument(f"{refs} names are given at once: want at most {REFS_MAX}")
    parsed = filters.parse(query.filters, _TASK_KEYS, "task")
    found: list[Task] = []
    for part in batches((yield from _candidates(state, query)), _at_once(parsed)):
        yield
        left = [task for old in part if (task := state.tasks.get(old.id)) is not None]
        found += [t for t in left if filters.matches(Named(state, t), parsed, _TASK_KEYS)]
        if len(found) > LIST_MAX:
            raise InvalidArgument(
                f"more than {LIST_MAX} tasks match: name services or nodes, or add a filter"
            )
    return (yield from _in_order(state, found))


def _at_once(parsed: Filters) -> int:
    """Objects that one slice holds against these filters."""
    return max(1, SLICE_TASKS // (1 + sum(map(len, parsed.values()))))


def _passing(items: Sequence[T], parsed: Filters, keys: Mapping[str, Key[T]]) -> Slices[list[T]]:
    found: list[T] = []
    for part in batches(items, _at_once(parsed)):
        yield
        found += [item for item in part if filters.matches(item, parsed, keys)]
    return found


def _candidates(state: State, query: TaskQuery) -> Slices[Iterator[Task]]:
    """The tasks that the refs name, each once; services and nodes together mean both."""
    if query.tasks:
        named: dict[TaskId, Task] = {}
        for ref in query.tasks:
            task = yield from find_task(state, ref)
            named[task.id] = task
        return iter(named.values())
    services = {find_service(state, ref).id: None for ref in query.services}
    nodes = {find_node(state, ref).id: None for ref in query.nodes}
    if nodes and not services:
        return (task for node in nodes for task in list(state.tasks_of_node(node).values()))
    groups = map(state.tasks_of_service, services or list(state.services))
    tasks = (task for group in groups for held in list(group.slots.values()) for task in held)
    return (task for task in tasks if task.node_id in nodes) if nodes else tasks


def _in_order(state: State, tasks: list[Task]) -> Slices[list[TaskId]]:
    """A merge sort in slices: a hundred thousand at once would take too long."""
    names = {
        service_id: service.spec.name
        for service_id in {task.service_id: None for task in tasks}
        if (service := state.services.get(service_id)) is not None
    }
    yield

    def key(task: Task) -> tuple[str, int, int]:
        return names.get(task.service_id, ""), task.slot, -task.created_at

    runs: list[list[Task]] = []
    for part in batches(tasks, SLICE_TASKS):
        runs.append(sorted(part, key=key))
        yield
    ordered: list[TaskId] = []
    for part in batches(merge(*runs, key=key), SLICE_TASKS):
        ordered += [task.id for task in part]
        yield
    return ordered
