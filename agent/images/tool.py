"""Runs a storage or registry tool to its end.

The tool is killed with the agent, with the caller, and after a time without progress, unless it
waits for another tool's lock on the storage. Its output is bounded here.
"""

import asyncio
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
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
    on_tick: Callable[[], None] = lambda: None,
) -> Output:
    """Run `command` with `env` added to the agent's environment.

    `on_line` is called with each line, `on_tick` periodically. Raises TimeoutError at a timeout;
    the tool has ended whenever this returns or raises.
    """
    process = await asyncio.create_subprocess_exec(
        *("setpriv", "--pdeathsig", "KILL", "--", *command),
        env={**os.environ, **env},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        pass_fds=secret_fds,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeouts.total_s), asyncio.timeout(timeouts.stall_s) as stall:
            return await _follow(process, stall, timeouts.stall_s, on_line, on_tick)
    finally:
        await _end(process)


async def _follow(
    process: Process,
    stall: asyncio.Timeout,
    stall_s: float,
    on_line: Callable[[bytes], None],
    on_tick: Callable[[], None],
) -> Output:
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(_watch(process.pid, stall, stall_s, on_tick))
        out = group.create_task(_read(process.stdout, on_line))
        err = group.create_task(_read(process.stderr, lambda line: None))
        code = await process.wait()
        watch.cancel()
    return Output(code, out.result(), err.result().decode("utf-8", "replace"))


async def _read(stream: asyncio.StreamReader | None, on_line: Callable[[bytes], None]) -> bytes:
    kept = rest = b""
    while stream and (chunk := await stream.read(KEPT_BYTES)):
        kept = (kept + chunk)[-KEPT_BYTES:]
        *lines, rest = (rest + chunk)[-KEPT_BYTES:].split(b"\n")
        for line in lines:
            on_line(line)
    return kept


async def _watch(
    pid: int, stall: asyncio.Timeout, stall_s: float, on_tick: Callable[[], None]
) -> None:
    seen = 0
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(min(_TICK_S, stall_s / 4))
        moved = _bytes_moved(pid)
        if moved - seen >= _PROGRESS_BYTES or _waits_for_lock(pid):
            seen = moved
            stall.reschedule(loop.time() + stall_s)
        on_tick()


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
