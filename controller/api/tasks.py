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
from pyswarm_core.errors import Conflict, Unavailable, invalid
from pyswarm_core.validation import require
from pyswarm_core.validation.container import signal_problems
from pyswarm_core.views import TaskCheck

ANSWER_TIMEOUT_S = 10.0


class SignalRequest(msgspec.Struct, frozen=True):
    """Has the fields of SignalTaskRequest."""

    ref: str
    signal: str = ""
    stop: bool = False


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


async def signal_task(leader: Leader, request: SignalRequest) -> None:
    """Have the task's agent send the signal, or begin to stop the process.

    Raises InvalidArgument for the signal, NotFound, Conflict if its process does not run, and
    Unavailable if its agent does not answer.
    """
    require_signal(request)
    task = await leader.watches.runner.run(find_task(leader.state, request.ref))
    if task.state not in HAS_PROCESS:
        name = task_name(leader.state, task)
        raise Conflict(f"task {name} does not run: it is {task.state.word}")
    signal = TaskSignal(task.id, request.signal, request.stop)
    async with leader.tunnels.open(task.node_id, SIGNAL_TASK, signal) as tunnel:
        await tunnel.read(ANSWER_TIMEOUT_S)


def require_signal(request: SignalRequest) -> None:
    """Raise InvalidArgument unless the request names a signal, or stops without one."""
    if request.stop and request.signal:
        raise invalid("--signal", request.signal, "expected none: a stop sends the stop signal")
    if not request.stop:
        require(list(signal_problems("--signal", request.signal)))
