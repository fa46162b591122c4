"""GNU tar in a process of its own, for the files of a whole volume. SHELL.

It can be ended while a file system hangs, and is as fast as tar is. It sees the volume alone
(`jail.py`), so names that lead out of it, links and devices are kept as they are and lead nowhere.
"""

import asyncio
import os
import resource
import signal
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from subprocess import Popen, TimeoutExpired

from agent.runtime.base import RuntimeFailed
from agent.runtime.running.spawning import pipe
from agent.volumes.jail import SHOWN, Stdio, start
from pyswarm_core.errors import reason_of

START_S = 60.0
"""A file system that does not answer for this long is reported as the copy's error."""
END_S = 5.0
MEMORY_BYTES = 512 * 1024 * 1024
"""Of one tar, which holds the headers of an entry and the names of hard links: an archive that
needs more is made to fill the host's memory.
"""
_BLOCKS = 128
"""Of 512 bytes in one write of an archive; its end is filled up to them."""

PACK = (
    "tar", "--create", "--file=-", f"--blocking-factor={_BLOCKS}", "--format=posix",
    "--pax-option=delete=atime,delete=ctime", "--sparse", "--acls", "--xattrs",
    "--xattrs-exclude=security.selinux", "--numeric-owner", "--one-file-system",
    "--warning=no-file-ignored", f"--directory={SHOWN}", ".",
)  # fmt: skip
"""Sockets are left out, as in every archive: only their program can make them."""
UNPACK = (
    "tar", "--extract", "--file=-", f"--blocking-factor={_BLOCKS}", "--absolute-names",
    "--same-owner", "--preserve-permissions", "--numeric-owner", "--delay-directory-restore",
    "--acls", "--xattrs", "--xattrs-include=user.*", "--xattrs-include=trusted.*",
    "--xattrs-include=security.capability", "--warning=no-timestamp",
    "--warning=no-unknown-keyword", "--warning=no-alone-zero-block", f"--directory={SHOWN}",
)  # fmt: skip
"""Names are taken as they are: those that lead out of the directory are errors then."""
MEASURE = ("du", "--summarize", "--block-size=1", "--one-file-system", SHOWN)
CHANGED = 1
"""The exit code of a tar that read files which changed meanwhile, and has all of them."""


class Child:
    """A program in a jail. `data` is this process's end of its stdout or stdin, `errors` of its
    stderr; neither blocks. Close it at the end, which kills the program.
    """

    def __init__(self, process: "Popen[bytes]", data: int, errors: int) -> None:
        self._process = process
        self._pidfd = os.pidfd_open(process.pid)
        self.data = data
        self.errors = errors

    async def wait(self) -> int:
        """Its exit code; negative: the signal that ended it."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self._pidfd, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._pidfd)
        return self._process.wait()

    def close_data(self) -> None:
        """The program's stdin ends."""
        if self.data >= 0:
            os.close(self.data)
            self.data = -1

    def end(self) -> None:
        """The same as `close` for one that nobody waits for, in a thread."""
        self._process.kill()
        with suppress(TimeoutExpired):
            self._process.wait(END_S)
        self._close_all()

    def _close_all(self) -> None:
        self.close_data()
        os.close(self.errors)
        os.close(self._pidfd)

    async def close(self) -> None:
        """Kill it, and wait until it is gone: then nothing uses the directory any more. A process
        that the kernel does not end within END_S is left to it.
        """
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(END_S):
                    await self.wait()
        finally:
            self._close_all()


@asynccontextmanager
async def running(
    words: Sequence[str], directory: Path, scratch: Path, *, writes: bool = False
) -> AsyncIterator[Child]:
    """A program as `begin` starts it, until the end of the block."""
    child = await begin(words, directory, scratch, writes=writes)
    try:
        yield child
    finally:
        await asyncio.shield(child.close())


async def begin(
    words: Sequence[str], directory: Path, scratch: Path, *, writes: bool = False
) -> Child:
    """Start a program that sees the directory, and may write to it if it `writes`: it reads an
    archive then. Raises RuntimeFailed if the host has no such program, or does not answer.
    """
    try:
        async with asyncio.timeout(START_S):
            return await _in_a_thread(lambda: _begun(words, directory, scratch, writes=writes))
    except TimeoutError:
        told = f"a file system of this host has not answered for {START_S:g} s"
        raise RuntimeFailed(told) from None
    except FileNotFoundError as error:
        missing = f"this host has no program {words[0]}: install GNU tar and coreutils"
        told = missing if error.filename == words[0] else reason_of(error)
        raise RuntimeFailed(told) from error
    except OSError as error:
        raise RuntimeFailed(reason_of(error)) from error


def _begun(words: Sequence[str], directory: Path, scratch: Path, *, writes: bool) -> Child:
    with ExitStack() as theirs, ExitStack() as kept:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        theirs.callback(os.close, null)
        data, ours = pipe(reads=not writes)
        theirs.callback(os.close, data)
        kept.callback(os.close, ours)
        errors, our_errors = pipe(reads=True)
        theirs.callback(os.close, errors)
        kept.callback(os.close, our_errors)
        stdio = Stdio((data, null, errors) if writes else (null, data, errors))
        process = start(words, directory, scratch, stdio, writable=writes)
        with suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        kept.callback(process.kill)  # if this process has no descriptor left for it
        child = Child(process, ours, our_errors)
        kept.pop_all()
    return child


async def _in_a_thread(work: Callable[[], Child]) -> Child:
    """What the work returns. A child that arrives after its caller is killed."""
    loop = asyncio.get_running_loop()
    made: asyncio.Future[Child] = loop.create_future()

    def deliver(child: Child | None, error: BaseException | None) -> None:
        if made.done():
            if child is not None:
                threading.Thread(target=child.end, name="volume-tar-end", daemon=True).start()
        elif child is not None:
            made.set_result(child)
        elif error is not None:
            made.set_exception(error)

    def run() -> None:
        child, error = None, None
        try:
            child = work()
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(deliver, child, error)

    threading.Thread(target=run, name="volume-tar", daemon=True).start()
    try:
        return await made
    except BaseException:
        if made.done() and not made.cancelled() and made.exception() is None:
            deliver(made.result(), None)  # it arrived as the wait ended
        raise
