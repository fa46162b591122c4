"""The tasks whose logs make up a service's or task's log, and their nodes. PURE."""

from collections.abc import Iterator
from typing import NamedTuple

from controller.api.queries.lookup import task_name
from controller.brain.slices import Slices, WatchResult
from pyswarm_core.clock import Instant
from pyswarm_core.ids import NodeId, ServiceId, TaskId
from pyswarm_core.limits import SLICE_TASKS
from pyswarm_core.objects import Task
from pyswarm_core.state import State
from pyswarm_core.states import NodeState, TaskState, is_terminal


class LogSource(NamedTuple):
    """One task that may have written a log."""

    task_id: TaskId
    task_name: str
    node_id: NodeId
    node_name: str


class LogSources(NamedTuple):
    """The tasks to read by node, and the nodes whose logs are known to be missing."""

    sources: tuple[LogSource, ...]
    missing: dict[NodeId, str]
    ended: bool
    """No task will write more."""


def log_sources(state: State, named_id: str, now: Instant) -> Slices[WatchResult[LogSources]]:
    """The tasks of a service (by slot, oldest first) or one task, by id, in slices.

    A task without a node has no log; the log of a task on a node that is not ready cannot be read.
    """
    sources: list[LogSource] = []
    missing: dict[NodeId, str] = {}
    for number, task in enumerate(_tasks(state, named_id), 1):
        if number % SLICE_TASKS == 0:
            yield
        node = state.nodes.get(task.node_id)
        if node is None or task.state < TaskState.PREPARING:
            continue
        if node.status.state is NodeState.READY:
            name = f"{task_name(state, task)}.{task.id}"
            sources.append(LogSource(task.id, name, node.id, node.description.hostname))
        else:
            missing[node.id] = f"node {node.description.hostname} is {node.status.state}"
    return WatchResult(LogSources(tuple(sources), missing, log_ended(state, named_id)))


def log_ended(state: State, named_id: str) -> bool:
    """Whether no task will write more: the service is gone, or the task has ended."""
    task = state.tasks.get(TaskId(named_id))
    if task is not None:
        return is_terminal(task.state)
    return ServiceId(named_id) not in state.services


def _tasks(state: State, named_id: str) -> Iterator[Task]:
    task = state.tasks.get(TaskId(named_id))
    if task is not None:
        yield task
        return
    slots = state.tasks_of_service(ServiceId(named_id)).slots
    for number in sorted(slots):
        yield from slots.get(number, ())
