"""What the mounts of tasks show: copies of volumes, directories of the host. SHELL.

Work on files runs in threads of its own, so that a file system that hangs delays no other task, and
nothing of the session. Each volume is made by one task at a time.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar
from weakref import WeakValueDictionary

from agent.runtime.base import RuntimeFailed
from agent.tasks.record import Record
from agent.volumes import filling
from agent.volumes.store import VolumeStore, anonymous, source_of_bind
from pyswarm_core.errors import reason_of
from pyswarm_core.ids import TaskId
from pyswarm_core.volumes.mounts import Mount, MountType

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 8
FILLING_AT_ONCE = 2
"""More would only make each slower: copies are bound by the disk."""
ANSWER_S = 120.0
"""A file system that does not answer for this long is reported as the task's error."""

Report = Callable[[str], None]
Sources = Mapping[str, str]
"""The path on the host that each target of a task's mounts shows."""


class Mounting(Protocol):
    """Makes what a task's mounts show."""

    async def ready(self, record: Record, layers: Sequence[str], report: Report) -> Sources:
        """Make what is missing of the sources of a task's mounts. Raises RuntimeFailed."""
        ...


class Volumes:
    """The volumes of one host."""

    def __init__(self, store: VolumeStore, run: Path, own: Callable[[TaskId], Path]) -> None:
        """`own`: the directory of a task that goes with its container."""
        self._store = store
        self._run_dir = run
        self._own = own
        self._threads = ThreadPoolExecutor(THREADS, "volumes")
        self._removing = ThreadPoolExecutor(1, "volume-rm")
        self._filling = asyncio.Semaphore(FILLING_AT_ONCE)
        self._locks = WeakValueDictionary[str, asyncio.Lock]()

    def close(self) -> None:
        """End the threads, without waiting for a file system that hangs."""
        for threads in (self._threads, self._removing):
            threads.shutdown(wait=False, cancel_futures=True)

    async def remove(self, volume_id: str) -> None:
        """Delete the copy of a volume. Raises OSError if something of it is left."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._removing, self._store.remove, volume_id)

    async def ready(self, record: Record, layers: Sequence[str], report: Report) -> Sources:
        """See `Mounting`."""
        found = {}
        for number, mount in enumerate(record.spec.container_spec.mounts):
            if mount.type is MountType.BIND:
                found[mount.target] = await self._bind(mount)
            elif mount.type is MountType.VOLUME:
                made = await self._volume(record, mount, number, layers, report)
                found[mount.target] = str(made)
        return found

    async def _bind(self, mount: Mount) -> str:
        create = bool(mount.bind_options and mount.bind_options.create_mountpoint)
        try:
            return await self._run(partial(source_of_bind, mount.source, create=create))
        except OSError as error:
            told = f"{mount.source}: {reason_of(error)}"
            raise RuntimeFailed(f'invalid mount config for type "bind": {told}') from error

    async def _volume(
        self, record: Record, mount: Mount, number: int, layers: Sequence[str], report: Report
    ) -> Path:
        if not mount.source:
            own = self._own(record.task_id)
            made = await self._run(anonymous, own, number)
            await self._fill(mount, layers, made)
            return made
        volume_id = record.volumes.get(mount.source, "")
        if not volume_id:
            raise RuntimeFailed(f"volume {mount.source}: the controller has no volume of that name")
        async with self._locks.setdefault(volume_id, asyncio.Lock()):
            if (known := await self._run(self._store.complete, volume_id, mount.source)) is None:
                report(f"making volume {mount.source}")
                known = await self._make(volume_id, mount, layers)
            return known

    async def _make(self, volume_id: str, mount: Mount, layers: Sequence[str]) -> Path:
        try:
            into = await self._run(self._store.begin, volume_id)
            await self._fill(mount, layers, into)
            return await self._run(self._store.finish, volume_id, mount.source)
        except OSError as error:
            raise RuntimeFailed(f"volume {mount.source}: {reason_of(error)}") from error

    async def _fill(self, mount: Mount, layers: Sequence[str], into: Path) -> None:
        if not mount.fills:
            return
        name = mount.source or f"at {mount.target}"
        async with self._filling:
            source = await self._run(filling.open_source, layers, mount.target, self._run_dir)
            if source is None:
                return
            try:
                await filling.copy(source, into)
            except RuntimeFailed as error:
                told = f"volume {name} cannot be filled from the image: {error}"
                raise RuntimeFailed(told) from error
            finally:
                os.close(source)

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(ANSWER_S):
                done = loop.run_in_executor(self._threads, partial(work, *args, **kwargs))
                return await done
        except TimeoutError:
            told = f"a file system of this host has not answered for {ANSWER_S:g} s"
            raise RuntimeFailed(told) from None
