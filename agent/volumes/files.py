"""Who may read and replace the files of this host's volumes, and when. SHELL over the store.

Each volume is replaced by one archive at a time, and only while no container has it. That is
checked when the archive begins, and again before its files become the copy.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

from agent.runtime.base import Rootfs, RuntimeFailed
from agent.runtime.program.opening import opened
from agent.tasks.record import Record
from agent.volumes.volumes import Volumes
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.errors import Conflict, Exhausted, NotFound, Unavailable, reason_of
from pyswarm_core.ids import TaskId
from pyswarm_core.streams.limits import VOLUME_COPIES_PER_NODE

_log = EventLog("agent.volumes")

OPEN_S = 20.0
CLEAN_S = 60.0
CLEAN_PERIOD_S = 0.05
"""The container of a task that has ended is removed in this time."""
_NAMED = 3


class VolumeFiles:
    """The files of one host's volumes. `records` are those of the worker. Close it at the end."""

    def __init__(
        self,
        volumes: Volumes,
        run: Path,
        records: Callable[[], Mapping[TaskId, Record]],
    ) -> None:
        self._volumes = volumes
        self._store = volumes.store
        self._records = records
        self._replacing = volumes.replacing
        self._dropping: set[asyncio.Future[None]] = set()
        self._writing = Counter[str]()
        """How many archives change paths in a volume."""
        self._still = Counter[str]()
        """How many read all of a volume that nothing may change meanwhile."""
        # Writing a file system to its disk may take minutes, and hang: no other work waits for it.
        self._threads = ThreadPoolExecutor(VOLUME_COPIES_PER_NODE, "volume-replace")
        self.scratch = run / "jail"
        self.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)

    def close(self) -> None:
        """End the threads, without waiting for a file system that hangs."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def tidy(self) -> None:
        """Remove what an earlier agent was making."""
        loop = asyncio.get_running_loop()
        try:
            volume_ids = await loop.run_in_executor(self._threads, self._store.ids)
        except OSError as error:
            _log.warning("volume.tidy_failed", error=error)
            return
        for volume_id in volume_ids:
            async with self._volumes.alone(volume_id):
                if volume_id in self._replacing:
                    continue
                self._replacing.add(volume_id)
                try:
                    await self._volumes.mounts.tidy(volume_id)
                    await loop.run_in_executor(self._threads, self._store.tidy, volume_id)
                except (OSError, RuntimeFailed) as error:
                    _log.warning("volume.tidy_failed", volume=volume_id, error=error)
                finally:
                    self._replacing.discard(volume_id)

    def users(self, volume_id: str) -> list[str]:
        """The names of the tasks whose containers have the volume, or may have it."""
        return sorted(record.name for record in self._using(volume_id))

    def _using(self, volume_id: str) -> list[Record]:
        return [
            record
            for record in self._records().values()
            if not record.clean and volume_id in record.volumes.values()
        ]

    @asynccontextmanager
    async def directory(self, volume_id: str, name: str, size: int = 0) -> AsyncIterator[Path]:
        """Where the files of a copy are, which stay mounted in the block. `size`: that of a volume
        with one. Raises NotFound if it has none yet, Conflict if they are gone, Unavailable.
        """
        try:
            found = await self._volumes.run(self._complete, volume_id, name, size)
        except RuntimeFailed as error:
            raise Conflict(str(error)) from error
        except OSError as error:
            raise Unavailable(f"volume {name}: {reason_of(error)}") from error
        if found is None:
            raise NotFound(f"volume {name} has no files yet: no task has mounted it on its node")
        async with AsyncExitStack() as stack:
            try:
                path = await stack.enter_async_context(self._volumes.held(volume_id, name))
            except RuntimeFailed as error:
                raise Unavailable(str(error)) from error
            yield path

    def _complete(self, volume_id: str, name: str, size: int) -> Path | None:
        """The same as of the store. Another file system is not asked here: it may hang."""
        paths = self._store.paths(volume_id)
        if paths.foreign.exists():
            return paths.data if self._store.is_recorded(volume_id) else None
        if size and self._store.is_recorded(volume_id) and not paths.image.exists():
            raise RuntimeFailed(f"volume {name}: {paths.image} is no file any more: restore it")
        return self._store.complete(volume_id, name)

    @contextmanager
    def writing(self, volume_id: str, name: str) -> Iterator[None]:
        """Paths in the volume are changed in the block. Raises Unavailable while all of it is read
        or replaced: what is written then would be lost.
        """
        if volume_id in self._replacing or self._still[volume_id]:
            raise Unavailable(f"volume {name} is being moved, backed up or restored: try again")
        self._writing[volume_id] += 1
        try:
            yield
        finally:
            self._writing[volume_id] -= 1

    @asynccontextmanager
    async def still(self, volume_id: str, name: str) -> AsyncIterator[None]:
        """Nothing on this host changes the volume in the block, as far as controllers keep tasks
        from it. Containers of tasks that these do not know any more may have it for some time.
        Raises Unavailable.
        """
        self._still[volume_id] += 1
        try:
            await self._until_unused(volume_id, name)
            yield
        finally:
            self._still[volume_id] -= 1

    async def _until_unused(self, volume_id: str, name: str) -> None:
        give_up_at = asyncio.get_running_loop().time() + CLEAN_S
        while (users := self.users(volume_id)) or self._writing[volume_id]:
            if asyncio.get_running_loop().time() > give_up_at:
                by = ", ".join(users[:_NAMED]) or "a copy of files into it"
                raise Unavailable(f"volume {name} is still used by {by}: its files may change")
            await asyncio.sleep(CLEAN_PERIOD_S)

    async def rootfs(self, directory: Path, name: str) -> Rootfs:
        """The files of a copy as those of a container are shown. The caller closes it."""

        def opening() -> int:
            flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            return os.open(directory, flags)

        try:
            descriptor = await opened(self._threads, opening, OPEN_S)
        except TimeoutError:
            told = f"its file system has not answered for {OPEN_S:g} s"
            raise Unavailable(f"volume {name}: {told}") from None
        except OSError as error:
            raise Unavailable(f"volume {name}: {reason_of(error)}") from error
        return Rootfs(
            descriptor=descriptor,
            close=lambda: os.close(descriptor),
            overlay=str(directory),
            upper="",
            layers=(),
        )

    @asynccontextmanager
    async def receiving(self, volume_id: str, name: str, size: int = 0) -> AsyncIterator[Path]:
        """An empty directory, which `replace` makes the volume; otherwise it is removed. `size`:
        that of a volume with one, of which the directory has room for as much.

        Raises Conflict if a container has the volume, or the host can make no file system of that
        size, Exhausted if another archive replaces it.
        """
        if self._store.paths(volume_id).foreign.exists():
            raise Conflict(
                f"volume {name} is a mount of another file system, which no archive replaces: copy"
                " the files into it with pyswarm volume cp"
            )
        await self._until_free(volume_id, name)
        if volume_id in self._replacing:
            raise Exhausted(f"volume {name} is being replaced by another archive: wait for it")
        self._replacing.add(volume_id)
        try:
            yield await self._begun(volume_id, name, size)
        finally:
            dropping = asyncio.get_running_loop().create_task(self._drop(volume_id))
            self._dropping.add(dropping)
            dropping.add_done_callback(lambda done: self._dropped(volume_id, done))
            with suppress(OSError, RuntimeFailed):
                await asyncio.shield(dropping)

    async def _begun(self, volume_id: str, name: str, size: int) -> Path:
        if not (size := size or self._size(volume_id)):
            return await self._in_thread(name, self._store.begin_receiving, volume_id)
        try:
            async with self._volumes.alone(volume_id):
                return await self._volumes.mounts.begin_receiving(volume_id, size)
        except (OSError, RuntimeFailed) as error:
            raise Conflict(f"volume {name}: {_reason(error)}") from error

    def _size(self, volume_id: str) -> int:
        """Of the file with the file system of a volume with a size; 0: it is a directory."""
        image = self._store.paths(volume_id).image
        return image.stat().st_size if image.exists() else 0

    async def _drop(self, volume_id: str) -> None:
        async with self._volumes.alone(volume_id):
            await self._volumes.mounts.drop_receiving(volume_id)
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._threads, self._store.drop_receiving, volume_id)

    def _dropped(self, volume_id: str, done: "asyncio.Future[None]") -> None:
        self._replacing.discard(volume_id)
        self._dropping.discard(done)
        if not done.cancelled() and (error := done.exception()) is not None:
            _log.warning("volume.remove_failed", volume=volume_id, error=error)

    async def sync(self, directory: Path) -> None:
        """Write what has been unpacked to the disk, which then has less to do at the end. Completes
        also if its caller leaves, within CLEAN_S: the file system is in use until then. What fails
        is found again by `replace`.
        """
        loop = asyncio.get_running_loop()
        syncing = loop.run_in_executor(self._threads, self._store.sync, directory)
        try:
            with suppress(OSError):
                await asyncio.shield(syncing)
        except asyncio.CancelledError:
            await asyncio.wait((syncing,), timeout=CLEAN_S)
            raise

    async def replace(self, volume_id: str, name: str) -> None:
        """Make what `receiving` has the volume. Completes also if its caller leaves.

        Raises Conflict if a container has the volume, Unavailable.
        """
        await asyncio.shield(self._replace(volume_id, name))

    async def _replace(self, volume_id: str, name: str) -> None:
        async with self._volumes.alone(volume_id):
            await self._until_free(volume_id, name)
            if not self._store.paths(volume_id).arriving.exists():
                await self._in_thread(name, self._store.replace, volume_id, name)
                return
            await self._until_unread(volume_id, name)
            try:
                await self._volumes.mounts.end_receiving(volume_id)
            except (OSError, RuntimeFailed) as error:
                raise Unavailable(f"volume {name}: {_reason(error)}") from error
            await self._in_thread(name, self._store.replace_image, volume_id, name)

    async def _until_unread(self, volume_id: str, name: str) -> None:
        """Return once nothing reads or writes the volume's files, which are unmounted then. Raises
        Unavailable if something goes on.
        """
        try:
            async with asyncio.timeout(CLEAN_S):
                while self._volumes.is_held(volume_id):  # noqa: ASYNC110  # streams end anywhere
                    await asyncio.sleep(CLEAN_PERIOD_S)
        except TimeoutError:
            told = "is being backed up, or files are being copied from or to it"
            raise Unavailable(f"volume {name} {told}: try again once that has ended") from None

    async def _in_thread(self, name: str, work: Callable[..., Path | None], *args: str) -> Path:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._threads, work, *args)
        except OSError as error:
            raise Unavailable(f"volume {name}: {reason_of(error)}") from error
        return found or Path()

    async def _until_free(self, volume_id: str, name: str) -> None:
        """Return once no container has the volume: those of tasks that have ended are removed soon.
        Raises Conflict for others.
        """
        give_up_at = asyncio.get_running_loop().time() + CLEAN_S
        while (users := self._using(volume_id)) or self._writing[volume_id]:
            active = [record.name for record in users if not record.ended]
            if active or asyncio.get_running_loop().time() > give_up_at:
                if not users:
                    raise Conflict(f"files are being copied into volume {name}: wait for that")
                names = sorted(active or [record.name for record in users])
                more = f" and {len(names) - _NAMED} others" if len(names) > _NAMED else ""
                raise Conflict(
                    f"volume {name} is mounted by {', '.join(names[:_NAMED])}{more}: stop them, or"
                    " use --stop"
                )
            await asyncio.sleep(CLEAN_PERIOD_S)


def _reason(error: OSError | RuntimeFailed) -> str:
    return reason_of(error) if isinstance(error, OSError) else str(error)
