"""The tasks whose containers a request is about, and their nodes. PURE."""

from collections.abc import Iterator, Sequence

import msgspec

from controller.api.queries.lookup import Sees, find_container
from controller.brain.slices import Slices
from pyswarm_core.errors import InvalidArgument, invalid
from pyswarm_core.ids import NodeId, ServiceId, TaskId
from pyswarm_core.limits import LIST_MAX, REFS_MAX, SLICE_TASKS
from pyswarm_core.objects import Node, Task
from pyswarm_core.state import State
from pyswarm_core.states import NodeState, TaskState, is_terminal


class Targets(msgspec.Struct, frozen=True):
    """The services and tasks that a request names; none: all."""

    services: frozenset[ServiceId] = frozenset()
    tasks: frozenset[TaskId] = frozenset()

    @property
    def has_all(self) -> bool:
        """Whether the request is about every task."""
        return not (self.tasks or self.services)

    def has(self, task: Task) -> bool:
        """Whether the request is about the task."""
        return self.has_all or task.id in self.tasks or task.service_id in self.services


class Sources(msgspec.Struct, frozen=True):
    """The nodes to sample, why others cannot be, and the tasks without a running container."""

    nodes: tuple[Node, ...] = ()
    missing: dict[NodeId, str] = {}
    idle: tuple[TaskId, ...] = ()


def named_targets(state: State, refs: Sequence[str]) -> Slices[Targets]:
    """Look up what the request names. Raises NotFound, InvalidArgument for more than REFS_MAX."""
    if len(refs) > REFS_MAX:
        raise invalid("names", len(refs), f"expected at most {REFS_MAX}", "count")
    services, tasks = set[ServiceId](), set[TaskId]()
    for ref in refs:
        named = yield from find_container(state, ref)
        if isinstance(named, Task):
            tasks.add(named.id)
        else:
            services.add(named.id)
    return Targets(frozenset(services), frozenset(tasks))


def stats_sources(state: State, targets: Targets, sees: Sees, *, idle: bool) -> Slices[Sources]:
    """The nodes of the tasks that have a container; with `idle` also the tasks that have none. Of
    tasks that the caller may see.

    Raises InvalidArgument if those are more than LIST_MAX.
    """
    nodes, missing, others = dict[NodeId, Node](), dict[NodeId, str](), list[TaskId]()
    examined = 0
    for tasks in _groups(state, targets, idle=idle):
        examined += max(len(tasks), 1)
        if examined >= SLICE_TASKS:
            examined = 0
            yield
        for task in tasks:
            if not sees(state, task.id):
                continue
            if not _has_container(task):
                others += [task.id] if idle else []
                continue
            if task.node_id in nodes:
                continue
            if (node := state.nodes.get(task.node_id)) is None:
                continue
            if node.status.state is NodeState.READY:
                nodes[node.id] = node
            else:
                hostname = node.description.hostname
                missing[node.id] = (
                    f"stats of node {hostname} are missing: it is {node.status.state}"
                )
        if len(others) > LIST_MAX:
            raise InvalidArgument(f"more than {LIST_MAX} tasks do not run: name services or tasks")
    return Sources(tuple(nodes.values()), missing, tuple(others))


def _has_container(task: Task) -> bool:
    return task.state >= TaskState.STARTING and not is_terminal(task.state)


def _groups(state: State, targets: Targets, *, idle: bool) -> Iterator[Sequence[Task]]:
    """The tasks that a request is about, in lists: of a slot, or of a node."""
    if targets.has_all and not idle:
        for node_id in list(state.nodes):
            yield list(state.tasks_of_node(node_id).values())
        return
    for task_id in targets.tasks:
        if (task := state.tasks.get(task_id)) is not None:
            yield [task]
    for service_id in list(state.services) if targets.has_all else targets.services:
        yield from list(state.tasks_of_service(service_id).slots.values())
