"""Asks the agents of tasks for their checks, and has them signal and stop processes. SHELL."""

import msgspec

from controller.api.queries.lookup import HAS_PROCESS, find_task, task_name
from controller.leader.exchanges import (
    SIGNAL_TASK,
    TASK_CHECKS,
    TaskChecksRequest,
    TaskSignal,
)
from controller.leader.leadership import Leader
from pyswarm_core.docker.units import format_duration
from pyswarm_core.errors import Conflict, Unavailable, invalid
from pyswarm_core.objects import Task
from pyswarm_core.validation import require
from pyswarm_core.validation.container import signal_problems
from pyswarm_core.validation.ranges import DURATION_MAX
from pyswarm_core.views import TaskCheck

ANSWER_TIMEOUT_S = 10.0


class SignalRequest(msgspec.Struct, frozen=True):
    """Has the fields of SignalTaskRequest."""

    ref: str
    signal: str = ""
    stop: bool = False
    timeout: int = 0
    """With `stop`: the grace period in nanoseconds; 0: the task's own."""


async def task_checks(leader: Leader, ref: str) -> tuple[TaskCheck, ...]:
    """The checks of the task with their last results; none if it has no node yet.

    Raises NotFound, and Unavailable if its agent does not answer.
    """
    task = await leader.watches.runner.run(find_task(leader.state, ref))
    if not task.node_id:
        return ()
    request = TaskChecksRequest(task.id)
    async with leader.tunnels.open(task.node_id, TASK_CHECKS, request) as tunnel:
        checks = await tunnel.read(ANSWER_TIMEOUT_S)
    if checks is None:
        raise Unavailable("the agent sent no answer")
    return checks


async def signal_task(leader: Leader, request: SignalRequest) -> Task:
    """Have the task's agent send the signal, or begin to stop the process; return the task.

    Raises InvalidArgument for the signal, NotFound, Conflict if its process does not run, and
    Unavailable if its agent does not answer.
    """
    require_signal(request)
    task = await leader.watches.runner.run(find_task(leader.state, request.ref))
    if task.state not in HAS_PROCESS:
        name = task_name(leader.state, task)
        raise Conflict(f"task {name} does not run: it is {task.state.word}")
    signal = TaskSignal(task.id, request.signal, request.stop, request.timeout)
    async with leader.tunnels.open(task.node_id, SIGNAL_TASK, signal) as tunnel:
        await tunnel.read(ANSWER_TIMEOUT_S)
    return task


def require_signal(request: SignalRequest) -> None:
    """Raise InvalidArgument unless it names a signal, which a stop need not, or for its timeout."""
    if request.signal or not request.stop:
        require(list(signal_problems("--signal", request.signal)))
    if not 0 <= request.timeout <= (DURATION_MAX if request.stop else 0):
        expected = f"expected 0s to {format_duration(DURATION_MAX)}, and of a stop"
        raise invalid("--timeout", format_duration(max(0, request.timeout)), expected)
