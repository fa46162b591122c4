"""A running command with open stdio, in the event loop. SHELL over its descriptors."""

import asyncio
import os
import signal as signals
from collections.abc import Awaitable, Callable
from contextlib import suppress

from agent.runtime.base import CommandResult
from agent.runtime.running import spawning
from agent.runtime.running.execs import Running, message_of

End = Callable[[Running, bool], Awaitable[CommandResult]]
"""Ends a command; kills what is left of it if the second argument is set."""


class Opened:
    """`OpenCommand` of a process."""

    def __init__(self, running: Running, end: End) -> None:
        self._running = running
        self._end = end

    @property
    def stdin(self) -> int:
        """See `OpenCommand`."""
        return self._running.stdio.stdin

    @property
    def stdout(self) -> int:
        """See `OpenCommand`."""
        return self._running.stdio.output

    @property
    def stderr(self) -> int:
        """See `OpenCommand`."""
        return self._running.stdio.errors

    @property
    def failure(self) -> str:
        """See `OpenCommand`."""
        return message_of(self._running)

    @property
    def _has_terminal(self) -> bool:
        return bool(self._running.process["terminal"])

    def close_stdin(self) -> None:
        """See `OpenCommand`."""
        stdio = self._running.stdio
        if stdio.stdin >= 0 and not self._has_terminal:
            os.close(stdio.stdin)
            stdio.stdin = -1

    def resize(self, rows: int, columns: int) -> None:
        """See `OpenCommand`."""
        if self._has_terminal and self.stdin >= 0:
            with suppress(OSError):
                spawning.resize(self._running.stdio, rows, columns)

    def signal(self, number: int) -> None:
        """See `OpenCommand`. The OCI runtime passes it on."""
        with suppress(ProcessLookupError):
            signals.pidfd_send_signal(self._running.pidfd, number)

    async def wait(self) -> None:
        """See `OpenCommand`."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        pidfd = self._running.pidfd
        loop.add_reader(pidfd, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(pidfd)

    async def end(self, *, kill: bool) -> CommandResult:
        """See `OpenCommand`."""
        return await self._end(self._running, kill)
