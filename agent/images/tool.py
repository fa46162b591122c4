"""Runs a storage or registry tool to its end.

The tool is killed with the agent, with the caller, and after a time without progress, unless it
waits for another tool's lock on the storage. Its output is bounded here.
"""

import asyncio
import errno
import fcntl
import os
import signal
import struct
import termios
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from pyswarm_core.plaintext import split_lines

KEPT_BYTES = 64 * 1024
_TICK_S = 0.25
_PROGRESS_BYTES = 4096


class Output(msgspec.Struct, frozen=True):
    """The exit code of a tool, and the last KEPT_BYTES of each stream."""

    code: int
    out: bytes
    err: str


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds without progress, and seconds in all, after which a tool is killed."""

    stall_s: float
    total_s: float


async def run_tool(
    command: Sequence[str],
    env: Mapping[str, str],
    timeouts: Timeouts,
    *,
    secret_fds: Sequence[int] = (),
    on_line: Callable[[bytes], None] = lambda line: None,
    terminal: tuple[int, int] | None = None,
    on_error: Callable[[bytes], None] = lambda line: None,
) -> Output:
    """Run `command` with `env` added to the agent's environment. Its standard output is a terminal
    of these rows and columns, if they are given.

    `on_line` is called with each line, `on_error` with each of stderr. Raises TimeoutError at a
    timeout; the tool has ended whenever this returns or raises.
    """
    async with _terminal(terminal) as screen:
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", "--", *command),
            env={**os.environ, **env},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=screen.lent if screen else PIPE,
            stderr=PIPE,
            pass_fds=secret_fds,
            start_new_session=True,
        )
        try:
            if screen:
                screen.close_lent()
            out = screen.reader if screen else process.stdout
            async with asyncio.timeout(timeouts.total_s), asyncio.timeout(timeouts.stall_s) as due:
                return await _follow(
                    process, out, due, timeouts.stall_s, on_line=on_line, on_error=on_error
                )
        finally:
            await _end(process)


class _Screen:
    """A terminal: the end that a process gets, and a reader of what it writes."""

    def __init__(self, rows: int, columns: int) -> None:
        self.reader = asyncio.StreamReader()
        self.own, self.lent = os.openpty()
        fcntl.ioctl(self.lent, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close_lent(self) -> None:
        if self.lent >= 0:
            os.close(self.lent)
        self.lent = -1


@asynccontextmanager
async def _terminal(size: tuple[int, int] | None) -> AsyncIterator[_Screen | None]:
    if size is None:
        yield None
        return
    screen = _Screen(*size)
    try:
        loop = asyncio.get_running_loop()
        protocol = asyncio.StreamReaderProtocol(screen.reader)
        pipe = os.fdopen(screen.own, "rb", buffering=0)
        transport, _ = await loop.connect_read_pipe(lambda: protocol, pipe)
        try:
            yield screen
        finally:
            transport.close()
    finally:
        screen.close_lent()


async def _follow(
    process: Process,
    stdout: asyncio.StreamReader | None,
    stall: asyncio.Timeout,
    stall_s: float,
    *,
    on_line: Callable[[bytes], None],
    on_error: Callable[[bytes], None],
) -> Output:
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(_watch(process.pid, stall, stall_s))
        out = group.create_task(_read(stdout, on_line))
        err = group.create_task(_read(process.stderr, on_error))
        code = await process.wait()
        watch.cancel()
    return Output(code, out.result(), err.result().decode("utf-8", "replace"))


async def _read(stream: asyncio.StreamReader | None, on_line: Callable[[bytes], None]) -> bytes:
    kept = rest = b""
    while stream and (chunk := await _chunk(stream)):
        kept = (kept + chunk)[-KEPT_BYTES:]
        *lines, rest = (rest + chunk)[-KEPT_BYTES:].split(b"\n")
        for line in lines:
            on_line(line)
    return kept


async def _chunk(stream: asyncio.StreamReader) -> bytes:
    try:
        return await stream.read(KEPT_BYTES)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b""  # a terminal that no process has any more


async def _watch(pid: int, stall: asyncio.Timeout, stall_s: float) -> None:
    seen = 0
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(min(_TICK_S, stall_s / 4))
        moved = _bytes_moved(pid)
        if moved - seen >= _PROGRESS_BYTES or _waits_for_lock(pid):
            seen = moved
            stall.reschedule(loop.time() + stall_s)


def _bytes_moved(pid: int) -> int:
    """Bytes read and written so far, including sockets and pipes."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text(encoding="ascii").split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(lines[1]) + int(lines[3])


def _waits_for_lock(pid: int) -> bool:
    """Whether this process waits for a file lock of another one."""
    lines = split_lines(Path("/proc/locks").read_text(encoding="ascii"))
    waiting = (line.split() for line in lines if "->" in line)
    return any(fields[5] == str(pid) for fields in waiting)


async def _end(process: Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
