"""Lists of objects of every kind, and of tasks, by filters, in a stable order. PURE.

A list is made in slices. First the ids that pass, in order; each object is then viewed in its turn,
as it is at that time. Every list is bounded: a longer one than LIST_MAX is refused instead of
truncated.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import merge
from typing import Any, TypeVar

import msgspec

from controller.api.changes.unreadable import unreadable_services
from controller.api.changes.volumes import users_of
from controller.api.queries import filters
from controller.api.queries.filters import Filters, Key
from controller.api.queries.lookup import find, find_task, predefined_networks, task_name
from controller.api.queries.members import networks_in_use
from controller.brain.slices import Slices, batches
from pyswarm_core.docker import networking
from pyswarm_core.errors import InvalidArgument, invalid
from pyswarm_core.identity.users import Role, User
from pyswarm_core.ids import NetworkId, ServiceId, TaskId
from pyswarm_core.kinds import CONFIG, NETWORK, NODE, SECRET, SERVICE, USER, VOLUME, Id, Item, Kind
from pyswarm_core.limits import LIST_MAX, REFS_MAX, SLICE_TASKS
from pyswarm_core.natural import UNNAMED, Natural, natural
from pyswarm_core.objects import Network, Node, Service, Task
from pyswarm_core.payloads.payload import Payload, PayloadId, Secret
from pyswarm_core.specs import PREDEFINED_NETWORKS, ROLES, SERVICE_MODES
from pyswarm_core.state import State
from pyswarm_core.states import DESIRED_STATES, Availability, NodeState, TaskState
from pyswarm_core.volumes.volume import Volume, VolumeId

T = TypeVar("T")
Found = TypeVar("Found")

_SERVICE_KEYS: dict[str, Key[Service]] = {
    "mode": Key(lambda service, value: service.spec.mode.word == value, tuple(SERVICE_MODES)),
}
_NODE_KEYS: dict[str, Key[Node]] = {
    "label": Key(lambda node, value: filters.has_label(node.description.engine_labels, value)),
    "node.label": Key(lambda node, value: filters.has_label(node.spec.labels, value)),
    "membership": Key(lambda _, value: value == "accepted", ("accepted", "pending")),
    "role": Key(lambda node, value: node.spec.role == value, ROLES),
    "availability": Key(lambda node, value: node.spec.availability == value, tuple(Availability)),
    "status": Key(lambda node, value: node.status.state == value, tuple(NodeState)),
}
_NETWORK_KEYS: dict[str, Key[Network]] = {
    "name": Key(lambda network, value: filters.has_part(network.spec.name, value)),
    "driver": Key(lambda network, value: network.spec.driver == value),
    "scope": Key(
        lambda network, value: networking.scope_of(network) == value, ("swarm", "global", "local")
    ),
    "type": Key(
        lambda network, value: (network.id in PREDEFINED_NETWORKS) == (value == "builtin"),
        ("custom", "builtin"),
    ),
}
_USER_KEYS: dict[str, Key[User]] = {
    "role": Key(lambda user, value: user.spec.role == value, tuple(Role)),
    "stack": Key(lambda user, value: value in user.spec.stacks),
}
_VOLUME_KEYS: dict[str, Key[Volume]] = {
    "name": Key(lambda volume, value: value in volume.spec.name),
    "driver": Key(lambda volume, value: volume.spec.driver == value),
}
_KEYS: Mapping[str, Mapping[str, Key[Any]]] = {
    SERVICE.name: _SERVICE_KEYS,
    NODE.name: _NODE_KEYS,
    NETWORK.name: _NETWORK_KEYS,
    VOLUME.name: _VOLUME_KEYS,
    USER.name: _USER_KEYS,
}
"""Filters of single kinds, in addition to or instead of those of every kind."""


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


def _labelled(item: Named, given: str) -> bool:
    service = item.state.services.get(item.task.service_id)
    template = service.template(item.task.spec_version) if service else None
    return template is not None and filters.has_label(template.container_spec.labels, given)


_STATE_WORDS = tuple(state.word for state in TaskState)
_TASK_KEYS: dict[str, Key[Named]] = {
    "id": Key(lambda item, value: item.task.id.startswith(value)),
    "name": Key(lambda item, value: task_name(item.state, item.task).startswith(value)),
    "label": Key(_labelled),
    "service": Key(_service_is),
    "node": Key(_node_is),
    "desired-state": Key(
        # Docker's third word; a task is accepted before it runs.
        lambda item, value: item.task.desired_state.word == value.replace("accepted", "ready"),
        (*(state.word for state in DESIRED_STATES), "accepted"),
    ),
    "state": Key(lambda item, value: item.task.state.word == value, _STATE_WORDS),
}


class TaskQuery(msgspec.Struct, frozen=True):
    """The tasks to list: of any of these services, on any of these nodes, or these; empty: all."""

    services: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()


def _keys_of(kind: Kind[Item, Id]) -> Mapping[str, Key[Item]]:
    return {
        "id": Key(lambda item, value: item.id.startswith(value)),
        "name": Key(lambda item, value: kind.title(item).startswith(value)),
        "label": Key(lambda item, value: filters.has_label(kind.labels(item), value)),
        **_KEYS.get(kind.name, {}),
    }


def find_all(state: State, kind: Kind[Item, Id], given: Sequence[str]) -> Slices[list[Id]]:
    """The ids of a kind's objects that pass the filters, in the kind's order."""
    keys = yield from _keys_in(state, kind, given)
    parsed = filters.parse(given, keys, kind.name)
    listed = _LISTED.get(kind.name, _all)
    if listed is _newest and _has_key(given, "version"):
        listed = _all
    found = yield from _passing(listed(state, kind), parsed, keys)
    return (yield from _sorted(found, kind.order, lambda item: kind.id_type(item.id)))


def _keys_in(
    state: State, kind: Kind[Item, Id], given: Sequence[str]
) -> Slices[Mapping[str, Key[Item]]]:
    """The keys of the kind, with those that compare with other objects of the state."""
    keys = _keys_of(kind)
    if (related := _RELATED.get(kind.name)) is None:
        return keys
    return {**keys, **(yield from related(state, given))}


def _has_key(given: Sequence[str], key: str) -> bool:
    return any(text.partition("=")[0].strip(" ").lower() == key for text in given)


def _network_keys(state: State, given: Sequence[str]) -> Slices[Mapping[str, Key[Network]]]:
    """`dangling`: used by no service, container or task, and neither predefined nor the ingress
    network. What is in use is looked up only if the filters have that key.
    """
    used = (yield from networks_in_use(state)) if _has_key(given, "dangling") else set()

    def is_dangling(network: Network) -> bool:
        is_kept = network.spec.ingress or network.id in PREDEFINED_NETWORKS
        return not is_kept and network.id not in used

    def matches(network: Network, value: str) -> bool:
        return is_dangling(network) == (value in ("true", "1"))

    return {"dangling": Key(matches, _TRUE_OR_FALSE)}


def _volume_keys(state: State, given: Sequence[str]) -> Slices[Mapping[str, Key[Volume]]]:
    """`dangling`: used by no service."""

    def is_on(volume: Volume, ref: str) -> bool:
        nodes = [state.nodes[one] for one in volume.copies if one in state.nodes]
        return any(ref in (node.id, node.description.hostname) for node in nodes)

    def is_dangling(volume: Volume, value: str) -> bool:
        return any(users_of(state, volume.spec.name)) is (value in ("false", "0"))

    yield from ()
    return {"dangling": Key(is_dangling, _TRUE_OR_FALSE), "node": Key(is_on)}


def _payload_keys(state: State, given: Sequence[str]) -> Slices[Mapping[str, Key[Payload]]]:
    """`version`: a number, `newest`, which is what a list without the filter has, or `all`."""
    for text in given:
        name, _, value = text.partition("=")
        if name.strip(" ").lower() == "version" and not _VERSION.fullmatch(value.strip(" ")):
            raise invalid("--filter", value, "expected a number, newest or all", "version")

    def matches(item: Payload, value: str) -> bool:
        if value == "newest":
            kind = SECRET if isinstance(item, Secret) else CONFIG
            return state.payloads[kind.name].is_newest(item)
        return value in ("all", str(item.number))

    yield from ()
    return {"version": Key(matches)}


_VERSION = re.compile(r"newest|all|[1-9][0-9]{0,8}")
_TRUE_OR_FALSE = ("true", "false", "1", "0")
_RELATED: Mapping[str, Callable[[State, Sequence[str]], Slices[Mapping[str, Key[Any]]]]] = {
    NETWORK.name: _network_keys,
    VOLUME.name: _volume_keys,
    SECRET.name: _payload_keys,
    CONFIG.name: _payload_keys,
}
"""Filters of single kinds whose answer depends on other objects."""


def _listed_volumes(state: State, kind: Kind[Volume, VolumeId]) -> list[Volume]:
    return [volume for volume in _all(state, kind) if not volume.removing]


def _newest(state: State, kind: Kind[Payload, PayloadId]) -> list[Payload]:
    """Of each name the newest version."""
    known = state.payloads[kind.name]
    return [one for one in state.of(kind).values() if known.is_newest(one)]


def _all(state: State, kind: Kind[Item, Id]) -> list[Item]:
    return list(state.of(kind).values())


def _listed_services(state: State, kind: Kind[Service, ServiceId]) -> list[Service]:
    """Services that are not being removed, and unreadable ones."""
    left = [service for service in _all(state, kind) if not service.removing]
    return [*left, *unreadable_services(state)]


def _listed_networks(state: State, kind: Kind[Network, NetworkId]) -> list[Network]:
    """Networks, with the predefined ones."""
    return [*_all(state, kind), *predefined_networks(state).values()]


_LISTED: Mapping[str, Callable[[State, Kind[Any, Any]], list[Any]]] = {
    SERVICE.name: _listed_services,
    NETWORK.name: _listed_networks,
    VOLUME.name: _listed_volumes,
    SECRET.name: _newest,
    CONFIG.name: _newest,
}
"""Kinds whose list differs from the objects in the state."""


def find_tasks(state: State, query: TaskQuery) -> Slices[list[TaskId]]:
    """Tasks by service and slot, the newest of a slot first.

    Raises NotFound for a ref without an object, InvalidArgument for more than LIST_MAX tasks or
    more than REFS_MAX refs.
    """
    refs = len(query.services) + len(query.nodes) + len(query.tasks)
    if refs > REFS_MAX:
        raise invalid("names", refs, f"expected at most {REFS_MAX}", "count")
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
    """Objects that one slice compares with these filters."""
    return max(1, SLICE_TASKS // (1 + sum(map(len, parsed.values()))))


def _passing(items: Sequence[T], parsed: Filters, keys: Mapping[str, Key[T]]) -> Slices[list[T]]:
    found: list[T] = []
    for part in batches(items, _at_once(parsed)):
        yield
        found += [item for item in part if filters.matches(item, parsed, keys)]
    return found


def _candidates(state: State, query: TaskQuery) -> Slices[Iterator[Task]]:
    """The tasks that the refs name, each once; with services and nodes, those of both."""
    if query.tasks:
        named: dict[TaskId, Task] = {}
        for ref in query.tasks:
            task = yield from find_task(state, ref)
            named[task.id] = task
        return iter(named.values())
    services = {find(state, SERVICE, ref).id: None for ref in query.services}
    nodes = {find(state, NODE, ref).id: None for ref in query.nodes}
    if nodes and not services:
        return (task for node in nodes for task in list(state.tasks_of_node(node).values()))
    groups = map(state.tasks_of_service, services or list(state.services))
    tasks = (task for group in groups for held in list(group.slots.values()) for task in held)
    return (task for task in tasks if task.node_id in nodes) if nodes else tasks


def _in_order(state: State, tasks: list[Task]) -> Slices[list[TaskId]]:
    """A merge sort in slices: sorting a hundred thousand at once would take too long."""
    names = {
        service_id: natural(service.spec.name)
        for service_id in {task.service_id: None for task in tasks}
        if (service := state.services.get(service_id)) is not None
    }
    yield

    def key(task: Task) -> tuple[Natural, int, int]:
        return names.get(task.service_id, UNNAMED), task.slot, -task.created_at

    return (yield from _sorted(tasks, key, lambda task: task.id))


def _sorted(
    items: Sequence[T], key: Callable[[T], Any], made: Callable[[T], Found]
) -> Slices[list[Found]]:
    """What `made` makes of the items, in the order of the key: merge sort."""
    runs: list[list[T]] = []
    for part in batches(items, SLICE_TASKS):
        runs.append(sorted(part, key=key))
        yield
    if len(runs) == 1:
        return [made(item) for item in runs[0]]
    ordered: list[Found] = []
    for part in batches(merge(*runs, key=key), SLICE_TASKS):
        ordered += [made(item) for item in part]
        yield
    return ordered
