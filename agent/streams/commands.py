"""Commands in tasks, with their stdio as a byte stream. SHELL.

The command ends with its caller: when the stream ends before the command, all its processes are
killed, unless the caller detached.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine
from contextlib import suppress

from agent.runtime.base import Command, CommandResult, NoUser, OpenCommand, Runtime, RuntimeFailed
from agent.streams.base import Link
from agent.streams.pipes import Reader, Writer
from agent.tasks.isolation.capabilities import BY_NUMBER
from agent.tasks.ocispec_process import signal_number
from pyswarm_core.aio.streams.duplex import Duplex, Read
from pyswarm_core.errors import Conflict, InvalidArgument
from pyswarm_core.streams.frames import (
    STDERR,
    STDIN,
    STDOUT,
    Detach,
    Exit,
    Resize,
    Signal,
    Started,
)
from pyswarm_core.streams.limits import STREAM_WINDOW_NODE
from pyswarm_core.streams.requests import ExecRequest

_NO_USER = 126
"""Docker's exit code of a command as a user that the container does not have."""
_DISCARDED = 1 << 16
_HEAD = 64
_LIKE_FAILURE = re.compile(rb"(?:^|: )(?:executable file|open executable|exec|chdir)\b")
"""In the beginning of output that may be the OCI runtime's."""
_FAILS_WITHIN_S = 0.2
"""The time in which a runtime that failed ends."""

Keep = Callable[[Coroutine[None, None, None]], None]
"""Continues work that outlives the stream."""


async def serve_command(runtime: Runtime, request: ExecRequest, link: Link, keep: Keep) -> None:
    """Run the command until it ends; `keep` takes one whose caller detached.

    Raises Conflict if the container cannot run a command now.
    """
    try:
        opened = await runtime.open(request.ref, _command(request))
    except NoUser as error:
        await link.send(Exit(_NO_USER, str(error)))
        return
    except RuntimeFailed as error:
        raise Conflict(str(error)) from error
    conversation = _Conversation(opened, link)
    try:
        if request.detach:
            await opened.wait()
        else:
            await conversation.run()
    except BaseException:
        await _killed(opened)
        raise
    if conversation.detached:
        keep(_discarded(opened))
        await link.send(Exit())
        return
    await link.send(_exit(await _ended(opened)))


def _command(request: ExecRequest) -> Command:
    return Command(
        args=request.args,
        env=request.env,
        user=request.user,
        workdir=request.workdir,
        capabilities=BY_NUMBER if request.privileged else (),
        interactive=request.interactive and not request.detach,
        terminal=request.terminal and not request.detach,
        detached=request.detach,
        rows=request.rows,
        columns=request.columns,
    )


class _Conversation:
    """The frames of one command, until it ends or its caller detaches."""

    def __init__(self, opened: OpenCommand, link: Link) -> None:
        self._opened = opened
        self._link = link
        self._duplex = Duplex(
            link.send, STREAM_WINDOW_NODE, (STDIN, STDOUT, STDERR), frame_bytes=link.frame_bytes
        )
        self._over = asyncio.Event()
        self.detached = False

    async def run(self) -> None:
        opened = self._opened
        sources = [(STDOUT, opened.stdout), (STDERR, opened.stderr)]
        readers = [(channel, Reader(fd)) for channel, fd in sources if fd >= 0]
        reads: list[tuple[int, Read]] = [*readers]
        channel, read = reads[-1]
        reads[-1] = channel, _Own(read, opened, self._over)
        await self._link.send(Started(terminal=opened.stderr < 0, stdin=opened.stdin >= 0))
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(self._listen())
            feeding = group.create_task(self._feed())
            pumps = [group.create_task(self._duplex.copy(*read)) for read in reads]
            ending = group.create_task(self._wait())
            await asyncio.wait((listening, ending), return_when=asyncio.FIRST_COMPLETED)
            if not self.detached:
                for _, reader in readers:
                    reader.finish()
                await asyncio.gather(*pumps)
            for task in (listening, feeding, ending, *pumps):
                task.cancel()

    async def _wait(self) -> None:
        await self._opened.wait()
        self._over.set()

    async def _listen(self) -> None:
        """Process the caller's frames; return when it detaches."""
        while True:
            frame = await self._link.receive()
            if self._duplex.take(frame):
                continue
            match frame:
                case Resize(rows, columns):
                    self._opened.resize(rows, columns)
                case Signal(name):
                    with suppress(InvalidArgument):
                        self._opened.signal(signal_number(name))
                case Detach():
                    self.detached = True
                    return
                case _:
                    pass

    async def _feed(self) -> None:
        """Write the caller's bytes to the program's stdin."""
        if self._opened.stdin >= 0:
            await self._duplex.drain(STDIN, Writer(self._opened.stdin))
            self._opened.close_stdin()


class _Own:
    """Reads what the program itself writes: where the OCI runtime cannot execute it, the runtime
    writes its reason there, which the last frame has in better words.
    """

    def __init__(self, read: Read, opened: OpenCommand, over: asyncio.Event) -> None:
        self._read = read
        self._opened = opened
        self._over = over
        self._begun = False

    async def __call__(self, size: int) -> bytes:
        data = await self._read(size)
        if self._begun or not _LIKE_FAILURE.search(data[:_HEAD]):
            self._begun = True
            return data
        self._begun = True
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAILS_WITHIN_S):
                await self._over.wait()
        return b"" if self._over.is_set() and self._opened.failure else data


async def _discarded(opened: OpenCommand) -> None:
    """Drop the output of a command until it ends."""
    readers = [Reader(fd) for fd in (opened.stdout, opened.stderr) if fd >= 0]

    async def drop(read: Reader) -> None:
        while await read(_DISCARDED):
            pass

    try:
        async with asyncio.TaskGroup() as group:
            dropping = [group.create_task(drop(reader)) for reader in readers]
            await opened.wait()
            for task in dropping:
                task.cancel()
    except BaseException:
        await _killed(opened)
        raise
    with suppress(RuntimeFailed):
        await opened.end(kill=False)


async def _killed(opened: OpenCommand) -> None:
    with suppress(RuntimeFailed):
        await asyncio.shield(opened.end(kill=True))


async def _ended(opened: OpenCommand) -> CommandResult:
    try:
        return await asyncio.shield(opened.end(kill=False))
    except RuntimeFailed as error:
        raise Conflict(str(error)) from error


def _exit(result: CommandResult) -> Exit:
    return Exit(result.code, result.output.decode(errors="replace"))
