"""Copies out of containers and into them, as streams of bytes. SHELL.

A copy out takes a thread for the time of each chunk alone. A copy in takes one until it ends, as it
waits for its sender, so their number is bounded; one that is cut off leaves nothing.
"""

import os
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor

from agent.files.locating import open_destination, opened_source
from agent.files.ownership import inside, outside
from agent.runtime.base import Rootfs
from pyswarm_core.aio.archives.entries import Source as Copied
from pyswarm_core.aio.archives.entries import top_name
from pyswarm_core.aio.archives.feeding import Feed, fed
from pyswarm_core.aio.archives.limits import COPIES_AT_ONCE
from pyswarm_core.aio.archives.packing import pack, pack_root
from pyswarm_core.aio.archives.pulling import pulled
from pyswarm_core.aio.archives.reading import Source
from pyswarm_core.aio.archives.unpacking import Rights, unpack
from pyswarm_core.errors import Exhausted

_READING_THREADS = 4


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

    async def into(self, rootfs: Rootfs, path: str, source: Copied | None, feed: Feed) -> None:
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

        def written() -> None:
            self._writes -= 1

        await fed(feed, self._writing, lambda: _unpacked(owned, path, source, feed), written)


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
            rootfs.close()

    def __del__(self) -> None:
        self.__exit__()


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
