"""Copies the frames of a byte stream between its caller and the task's agent. SHELL.

A frame is read when the one before it was written, so the slower side determines the pace and
nothing is queued. Frames are the messages of the caller's call, and are not looked into.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from msgspec.structs import replace

from controller.api.queries.lookup import task_name
from controller.brain.slices import Slices
from controller.leader.exchanges import Exchange
from controller.leader.leadership import Leader
from controller.leader.tunnels import Answers
from pyswarm_core.errors import Conflict
from pyswarm_core.objects import Task
from pyswarm_core.state import State
from pyswarm_core.streams.requests import StreamRequest
from pyswarm_core.validation import require
from pyswarm_core.validation.streams import stream_problems

R = TypeVar("R", bound=StreamRequest)


class Caller(NamedTuple):
    """The caller's end of a stream."""

    read: Callable[[], Awaitable[Any]]
    """The next frame; None once the caller has ended its side."""
    write: Callable[[Any], Awaitable[None]]


class Chosen(NamedTuple):
    """The task of a stream."""

    find: Callable[[State, StreamRequest], Slices[Task]]
    """Finds it by the request."""
    begun: Callable[[Task], None]
    """Called with it before its agent is asked."""


async def relay(
    leader: Leader, exchange: Exchange[R, Any], request: R, caller: Caller, chosen: Chosen
) -> None:
    """Serve the operation at the agent of the task that the request names, until the agent ends it.

    Raises InvalidArgument for the request, NotFound and Conflict for the task, the agent's error,
    and Unavailable if the agent or its connection is lost.
    """
    require(list(stream_problems(request)))
    task = await leader.watches.runner.run(chosen.find(leader.state, request))
    if not task.node_id:
        name = task_name(leader.state, task)
        raise Conflict(f"container {name} is on no node yet: it is {task.state.word}")
    chosen.begun(task)
    asked = replace(request, ref=task.id)
    async with leader.tunnels.open(task.node_id, exchange, asked) as tunnel:
        await copy(caller, tunnel)


async def copy(caller: Caller, tunnel: Answers[Any]) -> None:
    """Copy frames both ways until the agent ends the stream."""
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(_send(caller, tunnel))
        while (frame := await tunnel.read()) is not None:
            await caller.write(frame)
        sending.cancel()


async def _send(caller: Caller, tunnel: Answers[Any]) -> None:
    while (frame := await caller.read()) is not None:
        await tunnel.write(frame)
