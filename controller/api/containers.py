"""What users request of one container, and the agent of its task answers. SHELL."""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from controller.api.queries.lookup import find_container_task, find_target, task_name
from controller.api.streams import Send
from controller.api.tasks import ANSWER_TIMEOUT_S
from controller.brain.slices import Slices, WatchResult
from controller.leader.events.made import container_event
from controller.leader.exchanges import (
    CHANGES,
    PAUSE,
    TOP,
    ChangesRequest,
    PauseRequest,
    TopRequest,
)
from controller.leader.leadership import Leader
from pyswarm_core.clock import Instant
from pyswarm_core.errors import Conflict, NotFound, Unavailable
from pyswarm_core.ids import TaskId
from pyswarm_core.objects import Task
from pyswarm_core.state import State
from pyswarm_core.states import is_terminal
from pyswarm_core.views import ContainerEnd, FileChange, ProcessTable

WALK_TIMEOUT_S = 60.0
"""An agent that compares many files sends nothing meanwhile."""


async def top(leader: Leader, request: TopRequest) -> ProcessTable:
    """The processes of a running container.

    Raises NotFound, Conflict if it does not run, InvalidArgument for the options, Unavailable.
    """
    task = await _running(leader, request.ref)
    asked = TopRequest(task.id, request.options)
    async with leader.tunnels.open(task.node_id, TOP, asked) as tunnel:
        found = await tunnel.read(ANSWER_TIMEOUT_S)
    if found is None:
        raise Unavailable("the agent sent no answer")
    return found


async def send_changes(leader: Leader, ref: str, send: Send[Sequence[FileChange]]) -> None:
    """Send the files of a container that differ from its image, in parts.

    Raises NotFound, Conflict if the container has no files on a node, Unavailable.
    """
    task = await _with_node(leader, ref)
    async with leader.tunnels.open(task.node_id, CHANGES, ChangesRequest(task.id)) as tunnel:
        while (part := await tunnel.read(WALK_TIMEOUT_S)) is not None:
            await send(part)


async def pause(leader: Leader, ref: str, *, paused: bool) -> Task:
    """Pause a running container, or have it go on; return its task.

    Raises NotFound, Conflict if it does not run or is so already, Unavailable.
    """
    task = await _running(leader, ref)
    request = PauseRequest(task.id, paused)
    async with leader.tunnels.open(task.node_id, PAUSE, request) as tunnel:
        await tunnel.read(ANSWER_TIMEOUT_S)
    return task


class Requested(NamedTuple):
    """What a user did with a container."""

    action: str
    """Docker's word for it."""
    caller: str
    at: Instant
    reason: str = ""


def record_event(leader: Leader, task: Task, requested: Requested) -> None:
    """Record the event: no change of an object makes it."""
    service = leader.state.services.get(task.service_id)
    event = container_event(leader.state, service, requested.action, task)
    told = replace(event, caller=requested.caller, reason=requested.reason)
    leader.events.record((told,), requested.at, leader.revision)


async def wait(leader: Leader, ref: str) -> ContainerEnd:
    """How the container ended, once it has. Raises NotFound also if it is removed meanwhile, and
    Unavailable when leadership is lost.
    """
    task = await leader.watches.runner.run(find_container_task(leader.state, ref))
    name = task_name(leader.state, task)
    with leader.watches.watching(task.service_id, look_at_end, task.id) as watcher:
        while True:
            seen = await watcher.next()
            if isinstance(seen.value, ContainerEnd):
                return seen.value
            if not seen.value:
                raise NotFound(f"container {name} was removed")


def look_at_end(
    state: State, task_id: str, now: Instant
) -> Slices[WatchResult[ContainerEnd | bool]]:
    """How a task ended; otherwise whether it exists."""
    yield from ()
    task = state.tasks.get(TaskId(task_id))
    if task is None:
        return WatchResult(value=False)
    if not is_terminal(task.state):
        return WatchResult(value=True)
    return WatchResult(ContainerEnd(task.detail.exit_code, task.detail.error))


async def _running(leader: Leader, ref: str) -> Task:
    return await leader.watches.runner.run(find_target(leader.state, ref))


async def _with_node(leader: Leader, ref: str) -> Task:
    task = await leader.watches.runner.run(find_container_task(leader.state, ref))
    if not task.node_id:
        name = task_name(leader.state, task)
        raise Conflict(f"container {name} has no files yet: it is {task.state.word}")
    return task
