"""Processes that outlive who started them, and are found again by their command line: no pid file
can be outdated. SHELL.
"""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def handle_of(pid: int) -> Iterator[int]:
    """A descriptor of the process, immune to reuse of its id. ProcessLookupError if it is gone."""
    handle = os.pidfd_open(pid)
    try:
        yield handle
    finally:
        os.close(handle)


async def ended(process: int, timeout_s: float | None) -> None:
    """Return when the process has ended; TimeoutError if it does not in time."""
    loop = asyncio.get_running_loop()
    dead = asyncio.Event()
    loop.add_reader(process, dead.set)
    try:
        async with asyncio.timeout(timeout_s):
            await dead.wait()
    finally:
        loop.remove_reader(process)


async def end(pid: int, timeout_s: float) -> None:
    """Send SIGTERM, and SIGKILL if the process has not ended in time. No effect if it is gone."""
    with suppress(ProcessLookupError, TimeoutError), handle_of(pid) as process:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        try:
            await ended(process, timeout_s)
        except TimeoutError:
            signal.pidfd_send_signal(process, signal.SIGKILL)
            await ended(process, timeout_s)


def process_with(argument: str) -> int | None:
    """The process that has this argument on its command line."""
    expected = os.fsencode(argument)
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and expected in command_line(int(entry.name)):
            return int(entry.name)
    return None


def command_line(pid: int) -> list[bytes]:
    """Empty for a process that has ended, even if it waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []
