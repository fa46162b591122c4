"""The tasks whose logs make up a service's or task's log, and their nodes. PURE."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from controller.api.queries.lookup import task_name
from controller.brain.slices import Slices, WatchResult
from pyswarm_core.clock import Instant
from pyswarm_core.docker.logdrivers import NONE, UNREADABLE, driver_of
from pyswarm_core.errors import Conflict
from pyswarm_core.ids import NodeId, ServiceId, TaskId
from pyswarm_core.limits import SLICE_TASKS
from pyswarm_core.objects import Service, Task
from pyswarm_core.state import State
from pyswarm_core.states import NodeState, TaskState, is_terminal
from pyswarm_core.views import LogSource as ShownSource


class Details(NamedTuple):
    """Attributes of a task's lines, as they are printed. Only the tag is of one task alone: tasks
    share the others, which may be large.
    """

    before: str = ""
    tag: str = ""
    after: str = ""

    @property
    def text(self) -> str:
        """Sorted: `KEY=VALUE,...`."""
        return ",".join(filter(None, self))


class LogSource(NamedTuple):
    """One task that may have written a log."""

    task_id: TaskId
    task_name: str
    node_id: NodeId
    node_name: str
    details: Details = Details()

    @property
    def shown(self) -> ShownSource:
        """As users get it."""
        return ShownSource(self.task_id, self.task_name, self.node_name, self.details.text)


class LogSources(NamedTuple):
    """The tasks to read by node, and the nodes whose logs are known to be missing."""

    sources: tuple[LogSource, ...]
    missing: dict[NodeId, str]
    ended: bool
    """No task will write more."""
    absent: frozenset[TaskId] = frozenset()
    """The tasks on the missing nodes."""
    unstored: bool = False
    """Lines of other tasks are not stored."""


def log_sources(state: State, named_id: str, now: Instant) -> Slices[WatchResult[LogSources]]:
    """The tasks of a service (by slot, oldest first) or one task, by id, in slices.

    A task without a node has no log; the log of a task on a node that is not ready cannot be read.
    """
    found = yield from _sources(state, _tasks(state, named_id))
    return WatchResult(found._replace(ended=log_ended(state, named_id)))


def previous_sources(state: State, named_id: str) -> Slices[LogSources]:
    """The task before the newest one of each slot of a service, or of a task's slot."""
    previous = filter(None, map(_previous, _slots(state, named_id)))
    return (yield from _sources(state, previous))


def _sources(state: State, tasks: Iterator[Task]) -> Slices[LogSources]:
    sources: list[LogSource] = []
    missing: dict[NodeId, str] = {}
    absent: list[TaskId] = []
    unstored = False
    for number, task in enumerate(tasks, 1):
        if number % SLICE_TASKS == 0:
            yield
        node = state.nodes.get(task.node_id)
        if node is None or not _has_log(task):
            continue
        if not is_stored(state.services.get(task.service_id), task.spec_version):
            unstored = True
            continue
        name = node.description.hostname
        if node.status.state is NodeState.READY:
            title = f"{task_name(state, task)}.{task.id}"
            sources.append(LogSource(task.id, title, node.id, name))
        else:
            absent.append(task.id)
            missing[node.id] = f"logs of node {name} are missing: it is {node.status.state}"
    return LogSources(tuple(sources), missing, True, frozenset(absent), unstored)


def _has_log(task: Task) -> bool:
    return bool(task.node_id) and task.state >= TaskState.PREPARING


def is_stored(service: Service | None, spec_version: int) -> bool:
    """Whether the lines of the service's tasks of that version are stored; if it is not kept, they
    may be.
    """
    spec = service.template(spec_version) if service else None
    return spec is None or driver_of(spec.log_driver) != NONE


def require_stored(state: State, named_id: str, found: LogSources) -> None:
    """Raises Conflict if no lines can be read because none are stored."""
    if found.sources or found.missing:
        return
    task = state.tasks.get(TaskId(named_id))
    service = state.services.get(task.service_id if task else ServiceId(named_id))
    version = task.spec_version if task else service.spec_version if service else 0
    if found.unstored or not is_stored(service, version):
        raise Conflict(UNREADABLE)


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
    for tasks in _slots(state, named_id):
        yield from tasks


def _slots(state: State, named_id: str) -> Iterator[Sequence[Task]]:
    """The tasks of each slot, oldest first; of a task those of its slot up to it."""
    task = state.tasks.get(TaskId(named_id))
    if task is not None:
        held = state.tasks_of_service(task.service_id).slots.get(task.slot, ())
        yield held[: held.index(task) + 1]
        return
    slots = state.tasks_of_service(ServiceId(named_id)).slots
    for number in sorted(slots):
        yield slots.get(number, ())


def _previous(tasks: Sequence[Task]) -> Task | None:
    """The newest task before the last one that has a log."""
    return next((task for task in reversed(tasks[:-1]) if _has_log(task)), None)
