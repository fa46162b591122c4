"""What the mounts of tasks show: copies of volumes, directories of the host. SHELL.

Work on the agent's own files runs in threads. What another file system has to answer is asked by
processes (children.py), so that one that hangs delays no other task, and no end of the agent. Each
volume is made by one task at a time.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar
from weakref import WeakValueDictionary

import msgspec

from agent.outbox import Outbox
from agent.runtime.base import RuntimeFailed
from agent.runtime.isolation.binds import source_of
from agent.runtime.isolation.bound import BoundSource
from agent.runtime.program.opening import opened
from agent.tasks.record import Record
from agent.volumes import filling, views
from agent.volumes.children import Children
from agent.volumes.measuring import Measuring
from agent.volumes.mounted import Mounts
from agent.volumes.store import VolumeStore, anonymous, in_layer, was_written
from pyswarm_core.clock import Clock, seconds
from pyswarm_core.docker.units import format_duration
from pyswarm_core.errors import InvalidArgument, reason_of
from pyswarm_core.identity.audit import MASK
from pyswarm_core.ids import TaskId
from pyswarm_core.validation.isolation import has_user_namespace
from pyswarm_core.volumes.drivers import LOCAL, Backing, backing
from pyswarm_core.volumes.limits import VOLUME_FILL_MAX
from pyswarm_core.volumes.mounts import Driver, Mount, MountType

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 8
FILLING_AT_ONCE = 2
"""More would only make each slower: copies are bound by the disk."""
SECRETS_S = 60.0
"""Time limit of a task that waits for the passwords of its volumes, which come with the next
assignment.
"""
ANSWER_S = 120.0
"""A file system that does not answer for this long is reported as the task's error."""

_NO_ANSWER = f"a file system of this host has not answered for {ANSWER_S:g} s"
Images = Mapping[str, Sequence[str]]
_NO_IMAGES: Images = {}
Report = Callable[[str], None]


class Sources(msgspec.Struct, frozen=True):
    """What a task's mounts show."""

    paths: Mapping[str, str]
    """Paths on the host, by target."""
    binds: tuple[BoundSource, ...] = ()


class Mounting(Protocol):
    """Makes what a task's mounts show."""

    async def declared(self, record: Record, paths: Sequence[str]) -> Sequence[str]:
        """The paths of an image's VOLUME that get a volume. Raises RuntimeFailed."""
        ...

    async def ready(
        self,
        record: Record,
        layers: Sequence[str],
        report: Report,
        opened: ExitStack | None = None,
        images: Images = _NO_IMAGES,
    ) -> Sources:
        """Make what is missing of the sources of a task's mounts. `images`: the layers of those
        that it mounts. Images, and paths in volumes, are shown until `opened` is closed, once the
        container has its mounts. Raises RuntimeFailed.
        """
        ...


class Volumes:
    """The volumes of one host."""

    def __init__(
        self,
        store: VolumeStore,
        run: Path,
        own: Callable[[TaskId], Path],
        children: Children | None = None,
        mounts: Mounts | None = None,
        *,
        kept: Callable[[str], Path] | None = None,
    ) -> None:
        """`own`: the directory of a task that goes with its container. `kept`: that of the writable
        layer of a container, which is kept.
        """
        self._kept = kept
        self.store = store
        self._children = children or Children()
        self.mounts = mounts or Mounts(store, self._children)
        self._run_dir = run
        self._own = own
        self._threads = ThreadPoolExecutor(THREADS, "volumes")
        # A directory of the host that hangs must not delay tasks with volumes.
        self._binding = ThreadPoolExecutor(THREADS, "binds")
        self._removing = ThreadPoolExecutor(1, "volume-rm")
        self._filling = asyncio.Semaphore(FILLING_AT_ONCE)
        self._filling_foreign = asyncio.Semaphore(FILLING_AT_ONCE)
        self._drivers: dict[str, Driver] = {}
        """Of volumes with options, with their passwords, by id; never on disk."""
        self._learned = asyncio.Event()
        self._held = Counter[str]()
        self.replacing: set[str] = set()
        """Volumes that an archive replaces: what is mounted of them stays."""
        self._locks = WeakValueDictionary[str, asyncio.Lock]()

    def close(self) -> None:
        """End the threads, without waiting for a file system that hangs."""
        for threads in (self._threads, self._binding, self._removing):
            threads.shutdown(wait=False, cancel_futures=True)

    def alone(self, volume_id: str) -> asyncio.Lock:
        """The lock of whoever makes or replaces the copy."""
        return self._locks.setdefault(volume_id, asyncio.Lock())

    def measuring(
        self, outbox: Outbox, used: Callable[[], Collection[str]], clock: Clock
    ) -> Measuring:
        """The measurements of these volumes."""
        return Measuring(
            self.store, self.mounts, self._children, outbox=outbox, used=used, clock=clock
        )

    def learn(self, drivers: Mapping[str, Driver]) -> None:
        """The drivers of volumes, by id, as the controller sends them: with their passwords."""
        if drivers:
            self._drivers.update(drivers)
            self._learned.set()
            self._learned = asyncio.Event()

    async def remove(self, volume_id: str) -> None:
        """Delete the copy of a volume. Raises OSError if something of it is left."""
        loop = asyncio.get_running_loop()
        async with self.alone(volume_id):
            await self.mounts.remove(volume_id)
            await loop.run_in_executor(self._removing, self.store.remove, volume_id)
        self._drivers.pop(volume_id, None)

    async def release(self, volume_id: str, used: Callable[[], Collection[str]]) -> None:
        """Unmount a volume, unless it is one that a container has (`used`)."""
        async with self.alone(volume_id):
            is_kept = self.is_held(volume_id) or volume_id in self.replacing
            if volume_id not in used() and not is_kept:
                await self.mounts.release(volume_id)

    @asynccontextmanager
    async def held(self, volume_id: str, name: str) -> AsyncIterator[Path]:
        """The directory of a volume's files, which stay mounted meanwhile: for work on the files of
        a volume that may have no container. Raises RuntimeFailed.
        """
        async with self.alone(volume_id):  # as for `release`, and for whoever replaces the copy
            found = await self._opened(volume_id, name)
            self._held[volume_id] += 1
        try:
            yield found
        finally:
            self._held[volume_id] -= 1

    def is_held(self, volume_id: str) -> bool:
        """Whether a block of `held` has the volume. None begins while `alone` is held."""
        return self._held[volume_id] > 0

    async def _opened(self, volume_id: str, name: str) -> Path:
        paths = self.store.paths(volume_id)
        if not self.store.is_recorded(volume_id):
            raise RuntimeFailed(f"volume {name} has no complete copy on this node")
        if paths.image.exists():
            size = paths.image.stat().st_size
            return await self.mounts.ready(volume_id, name, Backing(size=size), None)
        if not paths.foreign.exists():
            return paths.data
        driver = self._drivers.get(volume_id)
        if driver is None:
            told = "this node does not have its options now: start a task that mounts it"
            raise RuntimeFailed(f"volume {name}: {told}")
        found = backing(driver.name or LOCAL, driver.options)
        return await self.mounts.ready(volume_id, name, found, None)

    async def declared(self, record: Record, paths: Sequence[str]) -> Sequence[str]:
        """See `Mounting`. All, except those where a container has written to its layer before."""
        if not paths or not record.layer or self._kept is None:
            return paths
        kept = self._kept(record.layer)
        return [path for path in paths if not await self.run(was_written, kept, path)]

    async def ready(
        self,
        record: Record,
        layers: Sequence[str],
        report: Report,
        opened: ExitStack | None = None,
        images: Images = _NO_IMAGES,
    ) -> Sources:
        """See `Mounting`."""
        found, binds = {}, []
        for number, mount in enumerate(record.spec.container_spec.mounts):
            if mount.type is MountType.BIND:
                binds.append(bound := await self._bind(mount))
                found[mount.target] = bound.path
            elif mount.type is MountType.VOLUME:
                made = await self._volume(record, mount, number, layers, report)
                shown = await self._inside(made, mount, opened) if mount.subpath else made
                found[mount.target] = str(shown)
            elif mount.image:
                view = await self._image(mount, images[mount.source], opened)
                shown = await self._inside(view, mount, opened) if mount.subpath else view
                found[mount.target] = str(shown)
        return Sources(found, tuple(binds))

    async def _bind(self, mount: Mount) -> BoundSource:
        """The source of a bind. A process asks first: a thread that hangs would never end."""
        try:
            await self._children.probe(mount.source)
        except RuntimeFailed as error:
            told = f"{mount.source}: {error}"
            raise RuntimeFailed(f'invalid mount config for type "bind": {told}') from error
        return await self._run(self._binding, source_of, mount)

    async def _volume(
        self, record: Record, mount: Mount, number: int, layers: Sequence[str], report: Report
    ) -> Path:
        if not mount.source:
            return await self._anonymous(record, mount, number, layers)
        volume_id = record.volumes.get(mount.source, "")
        if not volume_id:
            raise RuntimeFailed(f"volume {mount.source}: the controller has no volume of that name")
        report_made = partial(report, f"making volume {mount.source}")
        async with self.alone(volume_id):
            if not (found := await self._backing(record, mount.source, report)).is_directory:
                return await self._mounted(volume_id, mount, layers, found, report_made)
            if (known := await self.run(self.store.complete, volume_id, mount.source)) is None:
                report_made()
                known = await self._make(volume_id, mount, layers)
            return known

    async def _anonymous(
        self, record: Record, mount: Mount, number: int, layers: Sequence[str]
    ) -> Path:
        """A volume without a name: it goes with the task, or with the container's layer."""
        try:
            if record.layer and self._kept is not None:
                known, into = await self.run(in_layer, self._kept(record.layer), mount.target)
                if known.exists():
                    return known
                await self._fill(mount, layers, into)
                return await self.run(into.rename, known)
            made = await self.run(anonymous, self._own(record.task_id), number)
            await self._fill(mount, layers, made)
            return made
        except OSError as error:
            raise RuntimeFailed(f"volume at {mount.target}: {reason_of(error)}") from error

    async def _image(self, mount: Mount, layers: Sequence[str], opened: ExitStack | None) -> Path:
        """The files of an image, which the runtime mounts while `opened` shows them."""
        assert opened is not None, "an image is shown for a while"
        try:
            return await self._shown(views.viewed(layers, self._run_dir), opened)
        except OSError as error:
            raise RuntimeFailed(f"image {mount.source}: {reason_of(error)}") from error

    async def _inside(self, root: Path, mount: Mount, opened: ExitStack | None) -> Path:
        """The path in a volume or image, resolved: the runtime mounts the file that was found,
        whatever a task that writes to the volume puts in its place.
        """
        assert opened is not None, "a path in a volume is shown for a while"
        try:
            return await self._shown(views.bound(root, mount.subpath, self._run_dir), opened)
        except OSError as error:
            told = f"{mount.type} {mount.source}: {mount.type}-subpath: {reason_of(error)}"
            raise RuntimeFailed(f"{told}: it must exist before a task mounts it") from error

    async def _shown(self, view: AbstractContextManager[Path], opened: ExitStack) -> Path:
        """Enter the context in a thread, until `opened` is closed. If nobody waits for that any
        more, it is left as soon as it was entered.
        """
        entering = asyncio.get_running_loop().run_in_executor(self._threads, view.__enter__)

        def leave(done: asyncio.Future[Path]) -> None:
            if not done.cancelled() and done.exception() is None:
                view.__exit__(None, None, None)

        try:
            async with asyncio.timeout(ANSWER_S):
                shown = await asyncio.shield(entering)
        except TimeoutError:
            entering.add_done_callback(leave)
            raise RuntimeFailed(_NO_ANSWER) from None
        except asyncio.CancelledError:
            entering.add_done_callback(leave)
            raise
        opened.callback(view.__exit__, None, None, None)
        return shown

    async def _make(self, volume_id: str, mount: Mount, layers: Sequence[str]) -> Path:
        try:
            into = await self.run(self.store.begin, volume_id)
            await self._fill(mount, layers, into)
            return await self.run(self.store.finish, volume_id, mount.source, into)
        except OSError as error:
            raise RuntimeFailed(f"volume {mount.source}: {reason_of(error)}") from error

    async def _backing(self, record: Record, name: str, report: Report) -> Backing:
        """What holds the volume's files. Waits for passwords that an earlier agent had."""
        driver = record.drivers.get(name, Driver())
        volume_id = record.volumes[name]
        if MASK in str(driver.options):
            report(f"waiting for the password of volume {name}")
            try:
                async with asyncio.timeout(SECRETS_S):
                    while volume_id not in self._drivers:
                        await self._learned.wait()
            except TimeoutError:
                told = f"volume {name}: no controller has sent its password"
                raise RuntimeFailed(told) from None
            driver = self._drivers[volume_id]
        try:
            found = backing(driver.name or LOCAL, driver.options)
        except InvalidArgument as error:
            raise RuntimeFailed(f"volume {name}: {error}") from None
        if found.mounted and not found.maps_ids and has_user_namespace(record.spec.container_spec):
            told = f"the kernel maps no owners of {found.mounted.type} for --userns"
            raise RuntimeFailed(f"volume {name}: {told}: leave --userns out for its tasks")
        return found

    async def _mounted(
        self,
        volume_id: str,
        mount: Mount,
        layers: Sequence[str],
        found: Backing,
        report: Callable[[], None],
    ) -> Path:
        slots = self._filling if found.mounted is None else self._filling_foreign

        async def fill(into: Path) -> None:
            async with asyncio.timeout(seconds(VOLUME_FILL_MAX)):
                await self._fill(mount, layers, into, slots)

        report()
        try:
            wanted = fill if mount.fills else None
            return await self.mounts.ready(volume_id, mount.source, found, wanted)
        except TimeoutError:
            told = f"filling it took longer than {format_duration(VOLUME_FILL_MAX)}"
            raise RuntimeFailed(f"volume {mount.source}: {told}") from None
        except OSError as error:
            raise RuntimeFailed(f"volume {mount.source}: {reason_of(error)}") from error
        except RuntimeFailed as error:
            told = str(error)
            is_named = told.startswith("volume ")
            raise RuntimeFailed(told if is_named else f"volume {mount.source}: {told}") from None

    async def _fill(
        self,
        mount: Mount,
        layers: Sequence[str],
        into: Path,
        slots: asyncio.Semaphore | None = None,
    ) -> None:
        if not mount.fills:
            return
        name = mount.source or f"at {mount.target}"
        async with slots or self._filling:
            opening = partial(filling.open_source, layers, mount.target, self._run_dir)
            try:
                source = await opened(self._threads, opening, ANSWER_S)
            except TimeoutError:
                raise RuntimeFailed(_NO_ANSWER) from None
            if source is None:
                return
            try:
                if not await self.run(filling.copy_empty, source, into):
                    await filling.copy(source, into)
            except RuntimeFailed as error:
                told = f"volume {name} cannot be filled from the image: {error}"
                raise RuntimeFailed(told) from error
            finally:
                os.close(source)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the work on files returns, in a thread. Raises RuntimeFailed if the file system does
        not answer.
        """
        return await self._run(self._threads, work, *args, **kwargs)

    async def _run(
        self, pool: ThreadPoolExecutor, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(ANSWER_S):
                done = loop.run_in_executor(pool, partial(work, *args, **kwargs))
                return await done
        except TimeoutError:
            raise RuntimeFailed(_NO_ANSWER) from None
