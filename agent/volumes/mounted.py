"""Volumes that are file systems of their own: mounted for the first task of this host, unmounted
when no container has them. SHELL.

A mount survives the agent: the next one finds it in the kernel's table. Files of a foreign file
system are never deleted: it is unmounted, and its empty mount point removed.
"""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from agent.runtime.base import RuntimeFailed
from agent.volumes.child import mounts_below
from agent.volumes.children import Children
from agent.volumes.store import Paths, VolumeStore
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.volumes.drivers import READ_ONLY, Backing, FileSystem
from pyswarm_core.volumes.limits import VOLUME_FILL_MAX, VOLUME_MOUNT_MAX

_log = EventLog("agent.volumes")

Fill = Callable[[Path], Awaitable[None]]
"""Copies the image's files to a directory."""


class Mounts:
    """The mounted volumes of one host. The caller works on one volume at a time."""

    def __init__(
        self,
        store: VolumeStore,
        children: Children,
        *,
        mount_max: int = VOLUME_MOUNT_MAX,
    ) -> None:
        self._store = store
        self._children = children
        self._mount_max = mount_max
        self.mounted: set[str] = set()
        """The ids of volumes that may be mounted."""

    def find(self) -> None:
        """Find what an earlier agent has mounted."""
        top = self._store.top
        for point in mounts_below(str(top)):
            if (below := Path(point).relative_to(top)).parts:
                self.mounted.add(below.parts[0])

    async def ready(self, volume_id: str, name: str, backing: Backing, fill: Fill | None) -> Path:
        """Mount the volume, unless it is, and fill a new one. Raises RuntimeFailed, OSError."""
        self.mounted.add(volume_id)
        if backing.mounted is not None:
            return await self._foreign(volume_id, name, backing.mounted, fill)
        return await self._sized(volume_id, name, backing.size, fill)

    async def _sized(self, volume_id: str, name: str, size: int, fill: Fill | None) -> Path:
        paths = self._store.paths(volume_id)
        if not self._store.is_recorded(volume_id):
            into = await self.begin(volume_id, size)
            if fill is not None:
                await fill(into)
            await self.finish(volume_id, name)
        elif not paths.image.exists():
            raise RuntimeFailed(
                f"{paths.image} is no file any more: restore it; an empty one is not made, because"
                " the volume had data"
            )
        if not mounts_below(str(paths.data)):
            paths.data.mkdir(mode=0o755, exist_ok=True)
        await self._loop(paths, paths.image, paths.data, clear=False)
        return paths.data

    async def begin(self, volume_id: str, size: int) -> Path:
        """An empty directory with room for `size` bytes, for the files of a new copy, which
        `finish` makes the copy. What an interrupted one has left is deleted.
        """
        paths = self._store.paths(volume_id)
        return await self._made(volume_id, size, paths.draft, paths.filling)

    async def _made(self, volume_id: str, size: int, image: Path, target: Path) -> Path:
        self.mounted.add(volume_id)
        paths = self._store.paths(volume_id)
        paths.directory.mkdir(mode=0o700, exist_ok=True)
        await self._children.ask(
            "make",
            self._mount_max,
            lock=str(paths.directory),
            image=str(image),
            bytes=size,
            target=str(target),
        )
        target.mkdir(mode=0o755, exist_ok=True)
        await self._loop(paths, image, target, clear=True)
        return target

    async def finish(self, volume_id: str, name: str) -> None:
        """Make the directory of `begin` the copy, and record it; both survive a power loss."""
        paths = self._store.paths(volume_id)
        await self._unmounted(paths, paths.filling, sync=True)
        paths.draft.rename(paths.image)
        paths.data.mkdir(mode=0o755, exist_ok=True)
        with suppress(FileNotFoundError):
            paths.filling.rmdir()
        await asyncio.to_thread(self._store.record, volume_id, name)

    async def begin_receiving(self, volume_id: str, size: int) -> Path:
        """An empty directory with room for `size` bytes, for the files of an archive. What the copy
        is stays. Raises RuntimeFailed, OSError.
        """
        paths = self._store.paths(volume_id)
        return await self._made(volume_id, size, paths.arriving, paths.receiving)

    async def end_receiving(self, volume_id: str) -> None:
        """Unmount the directory of `begin_receiving`, with all files on disk, and the copy: then
        `VolumeStore.replace_image` replaces it. Raises RuntimeFailed.
        """
        paths = self._store.paths(volume_id)
        await self._detached_if_busy(paths, paths.receiving, sync=True)
        # A program of the host that is in the former copy keeps that until it leaves it.
        await self._detached_if_busy(paths, paths.data)

    async def tidy(self, volume_id: str) -> None:
        """Unmount what is being made of a volume, and not the copy. Raises RuntimeFailed."""
        if volume_id in self.mounted:
            paths = self._store.paths(volume_id)
            for target in (paths.receiving, paths.filling):
                if mounts_below(str(target)):
                    await self._detached_if_busy(paths, target)

    async def drop_receiving(self, volume_id: str) -> None:
        """Unmount the directory of `begin_receiving`, if it is mounted. Raises RuntimeFailed."""
        paths = self._store.paths(volume_id)
        if mounts_below(str(paths.receiving)):
            await self._detached_if_busy(paths, paths.receiving)

    async def _detached_if_busy(self, paths: Paths, target: Path, *, sync: bool = False) -> None:
        if await self._unmounted(paths, target, sync=sync):
            await self._unmounted(paths, target, lazy=True)

    async def _loop(self, paths: Paths, image: Path, target: Path, *, clear: bool) -> None:
        await self._children.ask(
            "loop",
            lock=str(paths.directory), image=str(image), target=str(target), clear=clear,
        )  # fmt: skip

    async def _foreign(
        self, volume_id: str, name: str, system: FileSystem, fill: Fill | None
    ) -> Path:
        paths = self._store.paths(volume_id)
        paths.directory.mkdir(mode=0o700, exist_ok=True)
        paths.foreign.touch(mode=0o600)  # first: nothing below the mount point is deleted
        if not mounts_below(str(paths.data)):  # one that is mounted may hang
            paths.data.mkdir(mode=0o755, exist_ok=True)
        limit = self._mount_max if system.host else 0
        answer = await self._children.ask(
            "mount", limit, lock=str(paths.directory), target=str(paths.data), **system._asdict()
        )
        is_new = answer["empty"] or paths.unfilled.exists()
        if fill is not None and is_new and not system.flags & READ_ONLY:
            paths.unfilled.touch(mode=0o600)  # a fill that is interrupted begins again
            await fill(paths.data)
            paths.unfilled.unlink(missing_ok=True)
        if not self._store.is_recorded(volume_id):
            await asyncio.to_thread(self._store.record, volume_id, name)
        return paths.data

    async def release(self, volume_id: str) -> None:
        """Unmount a volume that no container has. One that hangs is detached."""
        paths = self._store.paths(volume_id)
        if not mounts_below(str(paths.directory)):
            self.mounted.discard(volume_id)
            return
        try:
            is_busy = await self._unmounted(paths, paths.directory)
        except RuntimeFailed as error:
            _log.warning("volume.unmount_failed", volume=volume_id, error=error)
            is_busy = await self._detached(paths)
        if not is_busy:
            self.mounted.discard(volume_id)

    async def remove(self, volume_id: str) -> None:
        """Leave nothing mounted below the directory of a volume that is to be deleted. Raises
        OSError if something is.
        """
        paths = self._store.paths(volume_id)
        directory = str(paths.directory)
        try:
            if mounts_below(directory) and await self._unmounted(paths, paths.directory):
                await self._unmounted(paths, paths.directory, lazy=True)
        except RuntimeFailed:
            try:
                await self._detached(paths)
            except RuntimeFailed as error:
                raise OSError(errno.EBUSY, str(error), directory) from None
        if left := mounts_below(directory):
            raise OSError(errno.EBUSY, "still mounted", left[0])
        self.mounted.discard(volume_id)
        if paths.foreign.exists():
            with suppress(FileNotFoundError):
                paths.data.rmdir()  # never what is in it

    async def _detached(self, paths: Paths) -> bool:
        """Detach what is mounted and hangs; whether something in it is still in use. The kernel
        removes a mount before it says so to the server, for whose answer the process waits.
        """
        try:
            return await self._unmounted(paths, paths.directory, lazy=True)
        except RuntimeFailed:
            if mounts_below(str(paths.directory)):
                raise
            return False

    async def _unmounted(
        self, paths: Paths, target: Path, *, lazy: bool = False, sync: bool = False
    ) -> bool:
        """Whether something in it is still in use."""
        limit = VOLUME_FILL_MAX if sync else 0  # a disk takes minutes for what is cached
        answer = await self._children.ask(
            "unmount", limit,
            lock=str(paths.directory), target=str(target), lazy=lazy, sync=sync,
        )  # fmt: skip
        return bool(answer["busy"])
