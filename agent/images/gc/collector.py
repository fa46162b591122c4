"""Removes images of this host as `plan` decides, and reports that its disk is full. SHELL."""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from agent.config import Config
from agent.images.base import DiskFull, ImageError, Images, Removed, Stored
from agent.images.gc import ages, disk, plan
from agent.images.gc.plan import Disk, Item, Needed, Policy
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import MINUTE, SECOND
from pyswarm_core.docker.units import decimal_size
from pyswarm_core.errors import reason_of
from pyswarm_core.images.disk import ImageDisk, image_disk

_log = EventLog("agent.images")

PERIOD_S = 10.0
SAVED_EVERY = 5 * MINUTE


class Observer(Protocol):
    """Counts what is removed."""

    def follow(self, collector: "Collector") -> None:
        """Read the disk from this one."""
        ...

    def removed(self, reason: str, freed: int) -> None:
        """An image or a layer was removed: because of `age`, `pressure` or `prune`."""
        ...


def collecting(
    config: Config,
    images: Images,
    needed: Callable[[], Needed],
    observer: Observer,
) -> "Collector":
    """The collector of an agent with these settings."""
    policy = Policy(
        high=config.image_gc_high,
        low=config.image_gc_low,
        min_age=config.image_gc_min_age,
        max_age=config.image_gc_max_age,
    )
    folder = config.state_dir
    collector = Collector(
        images,
        policy,
        folder,
        needed,
        observer=observer,
        measure=lambda: disk.measured(folder / "storage"),
    )
    observer.follow(collector)
    return collector


class Collector:
    """The collection on one host. `needed`: what the tasks need."""

    def __init__(
        self,
        images: Images,
        policy: Policy,
        folder: Path,
        needed: Callable[[], Needed],
        *,
        observer: Observer,
        measure: Callable[[], Disk],
    ) -> None:
        self._folder = folder
        self.disk = ImageDisk()
        """What the controller is told: empty unless the disk is full."""
        self.used: Disk | None = None
        """As measured last."""
        self._images = images
        self._policy = policy
        self._path = folder / "image-ages.json"
        self._needed = needed
        self._observer = observer
        self._measure = measure
        self._ages: plan.Ages = ages.load(self._path)
        self._elapsed_ns = time.monotonic_ns()
        self._saved_ns = self._elapsed_ns
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """Collect periodically, until cancelled."""
        while True:
            try:
                await self.collect()
            except (OSError, ImageError) as error:
                text = reason_of(error) if isinstance(error, OSError) else str(error)
                _log.error("images.not_collected", error=text)
            await asyncio.sleep(PERIOD_S)

    async def collect(self) -> None:
        """Measure, and remove what the policy says. Raises OSError, ImageError."""
        async with self._lock:
            stored, now = await self._images.stored(), self._needed()
            self._count(stored, now)
            self.used = await asyncio.to_thread(self._measure)
            items = plan.removable(self._ages, stored.images, stored.loose, now, self._policy)
            if not self._images.pulling:
                for item in plan.expired(items, self._policy):
                    await self._remove(item, "age")
            if plan.is_full(self.used, self._policy, was_full=False):
                await self._relieve(items)
            await self._report()

    async def prune(self, image_id: str) -> Removed | None:
        """Remove the image with all its names; None if it is needed, or gone. Raises ImageError."""
        async with self._lock:
            stored = (await self._images.stored()).images
            image = next((one for one in stored if one.id == image_id), None)
            if image is None:
                return None
            item = Item(image.id, 0, plan.name_of(image), image.unique_bytes)
            removed = await self._remove(item, "prune")
            await self._measured()
            return removed

    async def prune_loose(self) -> int:
        """Delete layers that no image has; return their bytes."""
        async with self._lock:
            stored, freed = await self._images.stored(), 0
            items = plan.removable(self._ages, (), stored.loose, Needed(), self._policy)
            for item in () if self._images.pulling else items:
                with suppress(ImageError):  # a build has it
                    await self._remove(item, "prune")
                    freed += item.bytes
            freed += await self._forget_builds("prune")
            await self._measured()
            return freed

    async def _forget_builds(self, reason: str) -> int:
        """Remove what builds keep besides images; return its bytes."""
        if self._images.builds is None or not (freed := await self._images.builds.forget()):
            return 0
        self._observer.removed(reason, freed)
        _log.info("builds.forgotten", reason=reason, size=decimal_size(freed))
        return freed

    async def _measured(self) -> None:
        self.used = await asyncio.to_thread(self._measure)
        await self._report()

    def space(self) -> tuple[int, int]:
        """The bytes of the images' disk, and how many of them are free."""
        return disk.space(self._folder)

    def _count(self, stored: Stored, now: Needed) -> None:
        """Let the images be older by the time since the last count."""
        before, self._elapsed_ns = self._elapsed_ns, time.monotonic_ns()
        elapsed = self._elapsed_ns - before
        former = self._ages
        self._ages = plan.aged(former, stored.images, stored.loose, now, elapsed)
        if self._ages.keys() != former.keys() or self._elapsed_ns - self._saved_ns > SAVED_EVERY:
            self._saved_ns = self._elapsed_ns
            ages.save(self._path, self._ages)

    async def _relieve(self, items: Iterable[Item]) -> None:
        """Remove until the disk is used less than the low threshold."""
        if await self._forget_builds("pressure"):
            self.used = await asyncio.to_thread(self._measure)
            if not plan.is_full(self.used, self._policy, was_full=True):
                return
        for item in items:
            if item.is_layer and self._images.pulling:
                continue
            try:
                await self._remove(item, "pressure")
            except DiskFull:
                raise
            except ImageError as error:
                _log.warning("image.not_removed", image=item.name or item.id, error=error)
            self.used = await asyncio.to_thread(self._measure)
            if not plan.is_full(self.used, self._policy, was_full=True):
                return

    async def _remove(self, item: Item, reason: str) -> Removed | None:
        """Remove it, unless a task has begun to need it since the plan was made."""
        removed = None
        if item.is_layer:
            await self._images.delete_layer(item.id)
        else:
            stored, now = await self._images.stored(), self._needed()
            image = next((one for one in stored.images if one.id == item.id), None)
            if image is None or now.has(image):
                return None
            removed = await self._images.delete(item.id)
        self._ages.pop(item.id, None)
        self._observer.removed(reason, item.bytes)
        what = "layer.removed" if item.is_layer else "image.removed"
        _log.info(
            what,
            image=item.name,
            id=item.id[:12],
            reason=reason,
            size=decimal_size(item.bytes),
            unused_s=item.unused // SECOND,
        )
        return removed

    async def _report(self) -> None:
        """Set what the controller is told."""
        assert self.used is not None
        was_full = bool(self.disk.reason)
        if not plan.is_full(self.used, self._policy, was_full=was_full):
            if was_full:
                _log.info("images.disk_ok", used=self.used.percent)
            self.disk = ImageDisk()
            return
        stored = await self._images.stored()
        images = [(image.digest, image.names) for image in stored.images]
        if not was_full:
            _log.warning("images.disk_full", why=self.used.words, images=len(images))
        self.disk = image_disk(plan.pressure(self.used, self._policy), images)
