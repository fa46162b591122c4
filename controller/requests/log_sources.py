"""Whose logs a service's or task's log is made of, and on which nodes they lie. PURE."""

from collections.abc import Container
from typing import NamedTuple

from controller.requests.lookup import find_service_or_task, task_name
from pyswarm_core.ids import NodeId, ServiceId, TaskId
from pyswarm_core.objects import Service, Task
from pyswarm_core.state import State
from pyswarm_core.states import NodeState, TaskState, is_terminal


class LogSource(NamedTuple):
    """One task that may have written a log."""

    task_id: TaskId
    task_name: str
    node_id: NodeId
    node_name: str


class LogSources(NamedTuple):
    """Where to ask, and what is known to be missing, by node."""

    sources: tuple[LogSource, ...]
    missing: dict[NodeId, str]


def log_sources(state: State, ref: str, known: Container[TaskId] = ()) -> LogSources:
    """The tasks of a service (by slot, oldest first) or one task, as far as they are not `known`.

    Raises NotFound. A task without a node has no log; one whose node is not ready cannot be asked.
    """
    named = find_service_or_task(state, ref)
    sources: list[LogSource] = []
    missing: dict[NodeId, str] = {}
    for task in _tasks(state, named):
        node = state.nodes.get(task.node_id)
        if task.id in known or node is None or task.state < TaskState.PREPARING:
            continue
        if node.status.state is NodeState.READY:
            name = f"{task_name(state, task)}.{task.id}"
            sources.append(LogSource(task.id, name, node.id, node.description.hostname))
        else:
            missing[node.id] = f"node {node.description.hostname} is {node.status.state}"
    return LogSources(tuple(sources), missing)


def log_ended(state: State, named_id: str) -> bool:
    """Whether no task will write more: the service is gone, or the task has ended."""
    task = state.tasks.get(TaskId(named_id))
    if task is not None:
        return is_terminal(task.state)
    return ServiceId(named_id) not in state.services


def _tasks(state: State, named: Service | Task) -> list[Task]:
    if isinstance(named, Task):
        return [named]
    slots = state.tasks_of_service(named.id).slots
    return [task for slot in sorted(slots) for task in slots[slot]]
