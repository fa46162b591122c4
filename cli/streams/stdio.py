"""This process's stdin, stdout and stderr in an event loop. SHELL.

Their descriptors are shared with other processes, so they keep blocking. What is written may block
for ever: a thread does it, which nothing waits for when the process ends.
"""

import asyncio
import os
import select
import threading
from contextlib import suppress
from queue import SimpleQueue


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
    """Writes a descriptor. Raises OSError, BrokenPipeError if nobody reads the other end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._work: SimpleQueue[tuple[bytes, asyncio.Future[None]]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def __call__(self, data: bytes) -> None:
        """Return when the bytes were written."""
        if self._thread is None:
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, args=(loop,), daemon=True)
            self._thread.start()
        written = asyncio.get_running_loop().create_future()
        self._work.put((data, written))
        await written

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            data, written = self._work.get()
            error: OSError | None = None
            try:
                left = memoryview(data)
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
