"""This process's stdin, stdout and stderr in an event loop. SHELL.

Their descriptors are shared with other processes, so they keep blocking. What is written may block
for ever: a thread does it, which nothing waits for when the process ends.
"""

import asyncio
import errno
import fcntl
import os
import select
import threading
from contextlib import suppress
from queue import SimpleQueue

_SMALL = 64 * 1024
_PIPE_BYTES = 1024 * 1024
"""Of a pipe that gets large frames (`STREAM_FRAME_BYTES`): two fit into it."""
_NOWAIT = getattr(os, "RWF_NOWAIT", 0)
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ESPIPE)
"""Errors of RWF_NOWAIT where a terminal, a file or the kernel does not have it."""


class Input:
    """Reads a descriptor when it has data: a terminal, pipe or socket; of other files at once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def __call__(self, size: int) -> bytes:
        """At most `size` bytes; empty at the end, and of a descriptor that is closed."""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        try:
            loop.add_reader(self._descriptor, ready.set)
        except PermissionError:
            pass  # a regular file, which always has data
        except OSError:
            return b""
        else:
            try:
                await ready.wait()
            finally:
                loop.remove_reader(self._descriptor)
        try:
            return os.read(self._descriptor, size)
        except OSError:  # the terminal is gone
            return b""


class Output:
    """Writes a descriptor. Raises OSError, BrokenPipeError if nobody reads the other end.

    What a pipe or socket takes at once is written at once; a thread writes the rest, in its turn.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._work: SimpleQueue[tuple[memoryview, asyncio.Future[None]]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._waiting = 0
        """Writes that the thread has not completed."""
        self._takes_at_once = bool(_NOWAIT)
        self._is_large = False

    async def __call__(self, data: bytes) -> None:
        """Return when the bytes were written."""
        left = memoryview(data)
        if self._takes_at_once and not self._waiting:
            left = left[self._write_at_once(left) :]
        if not left:
            return
        if self._thread is None:
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, args=(loop,), daemon=True)
            self._thread.start()
        written = asyncio.get_running_loop().create_future()
        self._waiting += 1
        self._work.put((left, written))
        try:
            await written
        finally:
            self._waiting -= 1

    def _write_at_once(self, data: memoryview) -> int:
        """Write what does not block; returns how much that was."""
        if len(data) > _SMALL and not self._is_large:
            self._is_large = True
            with suppress(OSError):  # it is no pipe, or has the size that this user may give it
                fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        try:
            return os.pwritev(self._descriptor, [data], -1, _NOWAIT)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            self._takes_at_once = False
            return 0

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            left, written = self._work.get()
            error: OSError | None = None
            try:
                while left:
                    left = left[self._write(left) :]
            except OSError as raised:
                error = raised
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_settle, written, error)

    def _write(self, data: memoryview) -> int:
        """Write some of it. Another process may have set the descriptor not to block."""
        while True:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:
                select.select([], [self._descriptor], [])


def _settle(written: "asyncio.Future[None]", error: OSError | None) -> None:
    if written.done():
        return
    if error is None:
        written.set_result(None)
    else:
        written.set_exception(error)
