"""Copies out of containers and into them, as streams of bytes. SHELL.

A copy out takes a thread for the time of each chunk alone. A copy in takes one until it ends, as it
waits for its sender, so their number is bounded; one that is cut off leaves nothing.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from agent.files.locating import open_destination, opened_source
from agent.files.ownership import inside, outside
from agent.files.pulling import pulled
from agent.runtime.base import Rootfs
from pyswarm_core.aio.archives.entries import Source as Copied
from pyswarm_core.aio.archives.entries import top_name
from pyswarm_core.aio.archives.limits import COPIES_AT_ONCE
from pyswarm_core.aio.archives.packing import pack, pack_root
from pyswarm_core.aio.archives.reading import Source
from pyswarm_core.aio.archives.unpacking import Rights, unpack
from pyswarm_core.errors import Exhausted, Unavailable

_READING_THREADS = 4
_END_S = 5.0
"""How long a copy that was cut off may take to remove what it made, before it is on its own."""


class Copies:
    """The copies of one host. Close it at the end."""

    def __init__(self) -> None:
        self._reading = ThreadPoolExecutor(_READING_THREADS, "copy-out")
        self._writing = ThreadPoolExecutor(COPIES_AT_ONCE, "copy-in")
        self._writes = 0

    def close(self) -> None:
        """End the threads, without waiting for a file system that hangs."""
        for threads in (self._reading, self._writing):
            threads.shutdown(wait=False, cancel_futures=True)

    def out(self, rootfs: Rootfs, path: str, *, follow: bool) -> AsyncGenerator[bytes]:
        """The archive of a path. Takes over `rootfs`, as every method does.

        Raises NotFound, InvalidArgument and Conflict.
        """
        return pulled(self._reading, _packed(_Owned(rootfs), path, follow))

    def export(self, rootfs: Rootfs) -> AsyncGenerator[bytes]:
        """The archive of all files of a container, without its mounts."""
        return pulled(self._reading, _exported(_Owned(rootfs)))

    async def into(self, rootfs: Rootfs, path: str, source: Copied | None, feed: "Feed") -> None:
        """Unpack an archive at a path; `source` is None for an archive of a user.

        Raises InvalidArgument for the archive, NotFound and Conflict for the path, Exhausted.
        """
        owned = _Owned(rootfs)
        if self._writes >= COPIES_AT_ONCE:
            raise Exhausted(
                f"{self._writes} copies into containers of this node are in progress, which is the"
                " limit: try again later"
            )
        self._writes += 1
        ended = asyncio.Event()

        def end() -> None:
            self._writes -= 1
            ended.set()

        work = self._writing.submit(_unpacked, owned, path, source, feed)
        work.add_done_callback(lambda _: feed.loop.call_soon_threadsafe(end))
        try:
            await asyncio.wrap_future(work)
        except asyncio.CancelledError:
            feed.cut()
            with suppress(TimeoutError):
                async with asyncio.timeout(_END_S):
                    await ended.wait()
            raise


class _Owned:
    """The files of a container, to be used once in a `with` block. They are also closed if nothing
    refers to them: work that is cancelled before it began has no other end.
    """

    def __init__(self, rootfs: Rootfs) -> None:
        self._rootfs: Rootfs | None = rootfs

    def __enter__(self) -> Rootfs:
        assert self._rootfs
        return self._rootfs

    def __exit__(self, *_: object) -> None:
        rootfs, self._rootfs = self._rootfs, None
        if rootfs:
            os.close(rootfs.descriptor)

    def __del__(self) -> None:
        self.__exit__()


class Feed:
    """The bytes of an archive on their way from the event loop to a thread, one part at a time."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._is_cut = False

    async def write(self, data: bytes) -> None:
        """Pass on some bytes; waits until those before them were taken."""
        if data:
            await self._parts.put(data)

    async def end(self) -> None:
        """The archive is complete."""
        await self._parts.put(b"")

    def cut(self) -> None:
        """The sender is gone: whoever waits for bytes gets an error."""
        self._is_cut = True
        while not self._parts.empty():
            self._parts.get_nowait()
        self._parts.put_nowait(None)

    def receive(self) -> bytes:
        """In a thread: the next bytes, empty at the end. Raises Unavailable if they are cut."""
        return asyncio.run_coroutine_threadsafe(self._take(), self.loop).result()

    async def _take(self) -> bytes:
        if self._is_cut or (part := await self._parts.get()) is None:
            raise Unavailable("the copy was cut off")
        return part


def _packed(owned: _Owned, path: str, follow: bool) -> Generator[bytes]:
    with owned as rootfs, opened_source(rootfs, path, follow=follow) as descriptor:
        yield from pack(descriptor, top_name(path), inside(rootfs))


def _exported(owned: _Owned) -> Generator[bytes]:
    with owned as rootfs:
        descriptor = os.open(rootfs.overlay, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield from pack_root(descriptor, inside(rootfs))
        finally:
            os.close(descriptor)


def _unpacked(owned: _Owned, path: str, source: Copied | None, feed: Feed) -> None:
    with owned as rootfs:
        landed = [open_destination(rootfs, path, source)]
        try:
            unpack(Source(feed.receive), lambda first: landed.pop(), Rights(owner=outside(rootfs)))
        finally:
            for directory, _ in landed:
                os.close(directory)
