"""The program of a new container on this process's stdio, from its first byte on. SHELL.

The container's spec has `attach_by` (`latest_start()`): its program does not start before this
process is attached, so nothing of its output is missed.
"""

import asyncio
import sys
from collections.abc import Callable

from cli.client import Client
from cli.streams import program
from cli.streams.call import ATTACH
from cli.streams.program import Stdio
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.errors import Conflict
from pyswarm_core.states import TERMINAL_STATES
from pyswarm_core.streams.frames import Exit
from pyswarm_core.streams.requests import AttachRequest

_POLL_S = 0.05
_PATIENCE = 45 * SECOND
"""Longer than this process takes to attach to a task that has a node."""


def latest_start() -> Instant:
    """The `attach_by` of a container that this process is about to create and attach to."""
    return Instant(SystemClock().now() + _PATIENCE)


def run(
    client: Client,
    service_id: str,
    stdio: Stdio,
    has_ended: Callable[[], Exit | None] | None = None,
) -> Exit:
    """Attach to the one task of a service as soon as it has a node; return how its program ended.
    The message of a program that never ran is why.

    `has_ended` is called while there is no task to attach to: how it ended, or None to wait on; by
    default the end of the service's newest task. Raises Broken, and what the controller refuses.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    look = has_ended or (lambda: _ended(client, service_id))
    return program.in_loop(_attached(client, service_id, stdio, look))


async def _attached(
    client: Client, service_id: str, stdio: Stdio, look: Callable[[], Exit | None]
) -> Exit:
    request = AttachRequest(ref=service_id, stdin=stdio.stdin, wait=True)
    while True:
        try:
            return await program.converse(client, ATTACH, request, stdio)
        except Conflict:
            if (ended := look()) is not None:
                return ended
        await asyncio.sleep(_POLL_S)


def _ended(client: Client, service_id: str) -> Exit | None:
    tasks = [view.task for view in client.tasks(services=(service_id,))]
    newest = max(tasks, key=lambda task: task.created_at, default=None)
    if newest is None or newest.state not in TERMINAL_STATES:
        return None
    return Exit(newest.detail.exit_code, newest.detail.error)
