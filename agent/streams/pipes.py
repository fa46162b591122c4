"""Reading and writing descriptors that do not block, in the event loop. SHELL."""

import asyncio
import errno
import os


class Reader:
    """Reads one descriptor: a pipe, or the master of a terminal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._finished = False
        self._waits: asyncio.Future[None] | None = None

    def finish(self) -> None:
        """What was written until now is all: a process that outlives the program may hold the other
        end.
        """
        self._finished = True
        self._wake()

    async def __call__(self, size: int) -> bytes:
        """At most `size` bytes; empty at the end."""
        while True:
            try:
                return os.read(self._descriptor, size)
            except BlockingIOError:
                if self._finished:
                    return b""
            except OSError as error:
                if error.errno != errno.EIO:  # of a terminal that nobody has open
                    raise
                return b""
            await self._readable()

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        self._waits = loop.create_future()
        loop.add_reader(self._descriptor, self._wake)
        try:
            await self._waits
        finally:
            loop.remove_reader(self._descriptor)
            self._waits = None

    def _wake(self) -> None:
        if self._waits is not None and not self._waits.done():
            self._waits.set_result(None)


class Writer:
    """Writes one descriptor. What a program that closed its end is sent is dropped."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def __call__(self, data: bytes) -> None:
        """Return when the bytes were written; never if nobody reads the other end any more: the
        sender gets no further credit.
        """
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                await self._writable()
            except OSError as error:
                if error.errno not in (errno.EPIPE, errno.EIO):
                    raise
                await asyncio.get_running_loop().create_future()

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(self._descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(self._descriptor)
