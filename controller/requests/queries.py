"""The lists: services, tasks, nodes and networks that pass the filters, in a steady order. PURE.

Every list is bounded: past LIST_MAX objects the caller is asked to narrow it, instead of being sent
a part that looks like all.
"""

from collections.abc import Container, Sequence

import msgspec

from controller.requests import filters
from controller.requests.filters import Key
from controller.requests.lookup import find_node, find_service, find_task, task_name
from controller.requests.unreadable import unreadable_services
from controller.requests.views import (
    NodeView,
    ServiceSummary,
    TaskView,
    node_view,
    service_summary,
    task_view,
)
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.objects import Network, Node, Service, Task
from pyswarm_core.state import State
from pyswarm_core.states import DESIRED_STATES, TaskState

LIST_MAX = 100_000

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
    "role": Key(lambda node, value: node.spec.role == value, ("worker", "manager")),
    "availability": Key(
        lambda node, value: node.spec.availability == value, ("active", "pause", "drain")
    ),
    "status": Key(lambda node, value: node.status.state == value, ("ready", "down", "unknown")),
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


def list_services(
    state: State, wanted: Sequence[str], quarantined: Container[str] = ()
) -> list[ServiceSummary]:
    """Services that are not being removed, by name, and those that cannot be read."""
    parsed = filters.parse(wanted, _SERVICE_KEYS, "service")
    found = [
        service
        for service in state.services.values()
        if not service.removing and filters.matches(service, parsed, _SERVICE_KEYS)
    ]
    found += (
        service
        for service in unreadable_services(state)
        if filters.matches(service, parsed, _SERVICE_KEYS)
    )
    found.sort(key=lambda service: service.spec.name)
    return [service_summary(state, service, quarantined) for service in found]


def list_nodes(state: State, wanted: Sequence[str], leader_host: str = "") -> list[NodeView]:
    """Nodes in the order in which they joined."""
    parsed = filters.parse(wanted, _NODE_KEYS, "node")
    found = [node for node in state.nodes.values() if filters.matches(node, parsed, _NODE_KEYS)]
    found.sort(key=lambda node: node.number)
    return [node_view(state, node, leader_host) for node in found]


def list_networks(state: State, wanted: Sequence[str]) -> list[Network]:
    """Networks by name."""
    parsed = filters.parse(wanted, _NETWORK_KEYS, "network")
    found = [n for n in state.networks.values() if filters.matches(n, parsed, _NETWORK_KEYS)]
    return sorted(found, key=lambda network: network.spec.name)


class TaskQuery(msgspec.Struct, frozen=True):
    """Whose tasks: of any of these services, on any of these nodes, or these; empty is all."""

    services: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()


def list_tasks(state: State, query: TaskQuery) -> list[TaskView]:
    """Tasks by service and slot, the newest of a slot first. Specs only where tasks were named.

    Raises NotFound for a ref that names nothing, InvalidArgument for more than LIST_MAX.
    """
    search = TaskSearch(state, query)
    while search.step():
        pass
    return [task_view(state, task, with_spec=bool(query.tasks)) for task in search.result()]


class TaskSearch:
    """A search in steps, so that a million tasks can be looked through between heartbeats."""

    def __init__(self, state: State, query: TaskQuery) -> None:
        self._state = state
        self._filters = filters.parse(query.filters, _TASK_KEYS, "task")
        self._waiting = _candidates(state, query)
        self._position = 0
        self._found: list[Task] = []

    def step(self, count: int = 2_000) -> bool:
        """Look at the next tasks; return whether there are more."""
        part = self._waiting[self._position : self._position + count]
        self._position += count
        if self._filters:
            part = [
                task
                for task in part
                if filters.matches(Named(self._state, task), self._filters, _TASK_KEYS)
            ]
        self._found += part
        if len(self._found) > LIST_MAX:
            raise InvalidArgument(
                f"more than {LIST_MAX} tasks match: name services or nodes, or add a filter"
            )
        return self._position < len(self._waiting)

    def result(self) -> list[Task]:
        """What was found, in order."""
        names = {task.service_id: _service_name(self._state, task) for task in self._found}
        return sorted(
            self._found, key=lambda task: (names[task.service_id], task.slot, -task.created_at)
        )


def _candidates(state: State, query: TaskQuery) -> list[Task]:
    """The tasks that the refs name, each once; services and nodes together mean both."""
    if query.tasks:
        return list({task.id: task for task in (find_task(state, r) for r in query.tasks)}.values())
    services = {find_service(state, ref).id: None for ref in query.services}
    nodes = {find_node(state, ref).id: None for ref in query.nodes}
    if services:
        groups = (state.tasks_of_service(service_id) for service_id in services)
        return [task for group in groups for task in group if not nodes or task.node_id in nodes]
    if nodes:
        return [task for node_id in nodes for task in state.tasks_of_node(node_id).values()]
    return list(state.tasks.values())


def _service_name(state: State, task: Task) -> str:
    service = state.services.get(task.service_id)
    return service.spec.name if service else ""
