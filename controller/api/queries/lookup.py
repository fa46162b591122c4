"""The object that a `ref` names: by its id, its name, or the unique beginning of its id. PURE.

An exact id wins over a name, a name over a prefix, as in Docker. Raises NotFound with the text
quoted (and cut), and Ambiguous with the candidates for the beginning of several ids.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, cast

from controller.brain.slices import Slices, batches
from pyswarm_core.docker import networking
from pyswarm_core.docker.containers import views as containers
from pyswarm_core.errors import Conflict, NotFound, invalid, no_such_container, quoted
from pyswarm_core.ids import ID_ALPHABET, ID_LENGTH, NetworkId, NodeId, TaskId, short
from pyswarm_core.kinds import CONFIG, KINDS, NETWORK, NODE, SECRET, SERVICE, Id, Item, Kind
from pyswarm_core.limits import SLICE_TASKS
from pyswarm_core.objects import Network, Node, Object, Service, Task
from pyswarm_core.specs import PREDEFINED_NETWORKS
from pyswarm_core.stacks.labels import CONTAINER_NAME, PROJECT
from pyswarm_core.stacks.labels import SERVICE as SHORT_NAME
from pyswarm_core.state import State
from pyswarm_core.states import NodeState, TaskState, is_terminal

K = TypeVar("K", bound=str)
Sees = Callable[[State, str], bool]
"""Whether the caller may see the service, task or network of that id."""
_CANDIDATES = 5
HAS_PROCESS = (TaskState.STARTING, TaskState.RUNNING)
"""The states of tasks that may have a process."""
WILL_HAVE_PROCESS = (
    TaskState.ASSIGNED,
    TaskState.ACCEPTED,
    TaskState.PREPARING,
    TaskState.READY,
    *HAS_PROCESS,
)
"""Those, and those of tasks on a node that are to have one."""
IDS_COMPARED_AT_ONCE = 10 * SLICE_TASKS
"""Tasks whose ids one slice compares with a prefix, at a tenth of the cost of examining one."""
_ID_LETTERS = frozenset(ID_ALPHABET)
_NOT_FOUND = frozenset({NETWORK.name, SECRET.name, CONFIG.name})
"""Kinds with Docker's words `network web not found`, with which clients compare."""


class Ambiguous(NotFound):
    """The ref names several objects, of these ids; `text` shows one of them."""

    def __init__(
        self, what: str, ref: str, ids: Sequence[str], text: Callable[[str], str] = short
    ) -> None:
        listed = _listed(list(map(text, ids[: _CANDIDATES + 1])))
        listed += " or one of another stack" if len(ids) == 1 else ""
        super().__init__(f"{what} {quoted(ref)} is ambiguous: it could be {listed}")
        self._what, self._ref, self._ids, self._text = what, ref, ids, text

    def among(self, sees: Callable[[str], bool]) -> NotFound:
        """The error for a caller that sees some of the objects only."""
        seen = [one for one in self._ids[:IDS_COMPARED_AT_ONCE] if sees(one)]
        if not seen:
            return _missing(self._what, self._ref)
        return Ambiguous(self._what, self._ref, seen, self._text)


def kind_named(word: str) -> Kind[Any, Any]:
    """The kind of that name. Raises InvalidArgument."""
    if (kind := KINDS.get(word)) is None:
        known = ", ".join(sorted(KINDS))
        raise invalid("kind", word, f"expected one of {known}")
    return kind


def find(state: State, kind: Kind[Item, Id], ref: str) -> Item:
    """The object of that id, name or prefix. The name of a service that is being removed is free:
    it is found by its id. Predefined networks are found by their names.
    """
    objects = state.of(kind)
    found = objects.get(kind.id_type(ref)) or _named(state, kind, ref)
    return found or objects[_by_prefix(kind.name, ref, objects)]


def is_named(state: State, kind: Kind[Item, Id], ref: str) -> bool:
    """Whether it is the id or the name of an object. Raises Ambiguous."""
    return kind.id_type(ref) in state.of(kind) or _named(state, kind, ref) is not None


def _named(state: State, kind: Kind[Item, Id], ref: str) -> Item | None:
    if (by_name := _BY_NAME.get(kind.name)) is not None:
        return cast(Item | None, by_name(state, ref))
    object_id = state.ids_of_names(kind).get(ref)
    return None if object_id is None else state.of(kind)[object_id]


def predefined_networks(state: State) -> dict[NetworkId, Network]:
    """The networks that every host has, as old as the fleet."""
    return {one.id: one for one in networking.predefined(state.cluster.created_at)}


def object_of(state: State, kind: Kind[Item, Id], object_id: Id) -> Item | None:
    """The object of that id, which may be a predefined network; None if it is gone."""
    found = state.of(kind).get(object_id)
    if found is None and kind.name == NETWORK.name and object_id in PREDEFINED_NETWORKS:
        return cast(Item, predefined_networks(state)[NetworkId(object_id)])
    return found


def _network_named(state: State, ref: str) -> Network | None:
    return object_of(state, NETWORK, state.network_of_name.get(ref, NetworkId(ref)))


def _living_node(state: State, ref: str) -> Node | None:
    """The node of that hostname. If a host left and joined again, its former node is down, and the
    name means the new one.
    """
    named = _nodes_named(state, ref)
    living = [node for node in named if node.status.state is not NodeState.DOWN]
    return living[0] if len(living) == 1 else _only_node(ref, named)


def find_removable_node(state: State, ref: str) -> Node:
    """As `find`, but a name of two nodes is ambiguous even if one of them is down."""
    found = state.nodes.get(NodeId(ref)) or _only_node(ref, _nodes_named(state, ref))
    return found or state.nodes[_by_prefix(NODE.name, ref, state.nodes)]


def _nodes_named(state: State, ref: str) -> list[Node]:
    return [state.nodes[node_id] for node_id in state.node_table.named(ref)]


def _only_node(ref: str, named: Sequence[Node]) -> Node | None:
    if len(named) > 1:
        texts = {str(n.id): f"{short(n.id)} ({n.status.state})" for n in named}
        raise Ambiguous("node", ref, list(texts), texts.__getitem__)
    return named[0] if named else None


def find_task(state: State, ref: str) -> Slices[Task]:
    """The task of that id or prefix; the newest one of the slot that `web.1` names, or `shop-web-1`
    in the words of Compose, or the service's `container_name`; or the one that `ps` names
    `web.1.TASK`.

    In slices: there may be a million ids to compare with a prefix.
    """
    found = (
        state.tasks.get(TaskId(ref))
        or _newest_in_slot(state, ref)
        or _named_in_full(state, ref)
        or _named_by_compose(state, ref)
        or _named_in_file(state, ref)
    )
    return found or (yield from _task_by_prefix(state, ref))


def find_service_or_task(state: State, ref: str) -> Slices[Service | Task]:
    """The service or task that the ref names: a task by its id, else a service wins. In slices.

    So an id keeps its meaning, also when a service gets it as its name.
    """
    if (task := state.tasks.get(TaskId(ref))) is not None:
        return task
    try:
        return find(state, SERVICE, ref)
    except NotFound:
        pass
    try:
        return (yield from find_task(state, ref))
    except Ambiguous:
        raise
    except NotFound as error:
        missing = str(error).removeprefix("no such task")
        raise NotFound(f"no such service or task{missing}") from None


def find_container(state: State, ref: str) -> Slices[Service | Task]:
    """As `find_service_or_task`; what does not exist is missing in Docker's words."""
    try:
        return (yield from find_service_or_task(state, ref))
    except Ambiguous:
        raise
    except NotFound:
        raise no_such_container(ref) from None


def find_container_task(state: State, ref: str) -> Slices[Task]:
    """As `find_target`, but the task may have ended: of a service with one slot the newest one."""
    found = yield from find_container(state, ref)
    if isinstance(found, Task):
        return found
    slots = [tasks[-1] for tasks in state.tasks_of_service(found.id).slots.values() if tasks]
    return slots[0] if len(slots) == 1 else (yield from find_target(state, found.id))


def requested_task(state: State, request: Any) -> Slices[Task]:
    """The task that the request of a byte stream, or its message, is about; see `find_target`."""
    states = WILL_HAVE_PROCESS if getattr(request, "wait", False) else HAS_PROCESS
    return find_target(state, request.ref, states)


def find_target(
    state: State, ref: str, states: Collection[TaskState] = HAS_PROCESS
) -> Slices[Task]:
    """The task with a process that the ref names, as a user names a container: by task id or
    prefix, `web.1`, `web.1.ID`, or the name of a service that has one such task. In slices.
    `states`: of which state it may be.

    Raises NotFound, and Conflict if there is no such task or there are several.
    """
    found = yield from find_container(state, ref)
    if isinstance(found, Task):
        if found.state not in states:
            name = task_name(state, found)
            raise Conflict(f"task {name} does not run: it is {found.state.word}")
        return found
    slots = state.tasks_of_service(found.id).slots
    running: list[Task] = []
    for part in batches(list(slots.values()), SLICE_TASKS):
        running += [task for held in part for task in held if task.state in states]
        yield
    name = found.spec.name
    if not running:
        raise Conflict(_idle(found, [held[-1] for held in slots.values() if held]))
    if len(running) > 1:
        names = [found.name_of(task) for task in running[: _CANDIDATES + 1]]
        raise Conflict(
            f"service {name} has {len(running)} running tasks: name one of them, as"
            f" {_listed(names)}"
        )
    return running[0]


def _idle(service: Service, newest: Sequence[Task]) -> str:
    """Why a service has no running task, with what to do."""
    name = service.spec.name
    if not service.spec.mode.is_container:
        return f"service {name} has no running task: `pyswarm why {name}` says why"
    ended = service.spec.stopped or all(is_terminal(task.state) for task in newest)
    hint = f"`pyswarm start {name}` starts it" if ended else f"`pyswarm why {name}` says why"
    return f"container {name} is not running: {hint}"


def task_name(state: State, task: Task) -> str:
    """The task's name, also if its service is unknown; see `Service.name_of`."""
    service = state.services.get(task.service_id)
    return service.name_of(task) if service else f"{short(task.service_id)}.{task.slot}"


def container_id(state: State, task: Task) -> str:
    """The id of the task's container, as `ps` shows it; the task's if its service is unknown."""
    service = state.services.get(task.service_id)
    return containers.id_of(service, task) if service else task.id


def _newest_in_slot(state: State, ref: str) -> Task | None:
    name, dot, position = ref.rpartition(".")
    service_id = state.service_of_name.get(name) if dot else None
    if service_id is None:
        return None
    if position.isascii() and position.isdecimal() and len(position) < 10:
        slot = int(position)
    else:
        node = state.nodes.get(NodeId(position))
        if node is None:
            return None
        slot = node.number
    tasks = state.tasks_of_service(service_id).slots.get(slot)
    return tasks[-1] if tasks else None


def _named_by_compose(state: State, ref: str) -> Task | None:
    """The newest task of slot 1 of `shop_web` for `shop-web-1`, if that is a project's service."""
    head, _, slot = ref.rpartition("-")
    for place, letter in enumerate(head):
        if letter != "-" or not slot.isdecimal():
            continue
        project, short_name = head[:place], head[place + 1 :]
        full = f"{project}_{short_name}"
        service_id = state.service_of_name.get(full)
        service = state.services.get(service_id) if service_id else None
        labels = service.spec.labels if service else {}
        if (labels.get(PROJECT), labels.get(SHORT_NAME)) == (project, short_name):
            return _newest_in_slot(state, f"{full}.{slot}")
    return None


def _named_in_file(state: State, ref: str) -> Task | None:
    """The newest task of the first slot of the service with this `container_name`."""
    for service in state.services.values():
        if ref and service.spec.labels.get(CONTAINER_NAME) == ref and not service.removing:
            slots = state.tasks_of_service(service.id).slots
            held = slots[min(slots)] if slots else ()
            return held[-1] if held else None
    return None


def _named_in_full(state: State, ref: str) -> Task | None:
    name, _, task_id = ref.rpartition(".")
    task = state.tasks.get(TaskId(task_id))
    return task if task is not None and name and name == task_name(state, task) else None


def _task_by_prefix(state: State, ref: str) -> Slices[Task]:
    _require_prefix("task", ref)
    matches: list[TaskId] = []
    compared = 0
    for service_id in list(state.services):
        slots = state.tasks_of_service(service_id).slots
        for part in batches(list(slots.values()), SLICE_TASKS):
            compared += sum(map(len, part))
            matches += [task.id for held in part for task in held if task.id.startswith(ref)]
            if compared >= IDS_COMPARED_AT_ONCE:
                compared = 0
                yield
    left = {task_id: state.tasks[task_id] for task_id in matches if task_id in state.tasks}
    return left[_only("task", ref, list(left))]


def _by_prefix(what: str, ref: str, ids: Mapping[K, object]) -> K:
    _require_prefix(what, ref)
    return _only(what, ref, [key for key in ids if key.startswith(ref)])


def _require_prefix(what: str, ref: str) -> None:
    if not ref or len(ref) >= ID_LENGTH or not _ID_LETTERS.issuperset(ref):
        raise _missing(what, ref)


def _only(what: str, ref: str, matches: Sequence[K]) -> K:
    if not matches:
        raise _missing(what, ref)
    if len(matches) > 1:
        raise Ambiguous(what, ref, matches)
    return matches[0]


def _missing(what: str, ref: str) -> NotFound:
    if what in _NOT_FOUND:
        return NotFound(f"{what} {quoted(ref)[1:-1]} not found")
    return NotFound(f"no such {what}: {quoted(ref)}")


def _listed(names: Sequence[str]) -> str:
    more = " and others" if len(names) > _CANDIDATES else ""
    return ", ".join(names[:_CANDIDATES]) + more


def _payload_named(kind: Kind[Item, Id], state: State, ref: str) -> Item | None:
    """The newest version of that name, or the one that `NAME@NUMBER` names."""
    found = state.ids_of_names(kind).get(ref) or state.payloads[kind.name].newest(ref)
    return None if found is None else state.of(kind)[kind.id_type(found)]


_BY_NAME: Mapping[str, Callable[[State, str], Object | None]] = {
    SECRET.name: partial(_payload_named, SECRET),
    CONFIG.name: partial(_payload_named, CONFIG),
    NODE.name: _living_node,
    NETWORK.name: _network_named,
}
"""Kinds of which several objects may have the same name, or some are not stored."""
