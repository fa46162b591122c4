"""Measures the copies of volumes in the background, one at a time, in a process that can be killed.
SHELL.

A copy that hangs keeps what was measured last. Each measurement is reported, and all of them at the
begin of a session.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping

from msgspec.structs import replace

from agent.outbox import Outbox
from agent.runtime.base import RuntimeFailed
from agent.volumes.children import Children
from agent.volumes.mounted import Mounts
from agent.volumes.store import VolumeStore
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import Clock, Instant
from pyswarm_core.volumes.limits import (
    VOLUME_MEASURE_ENTRIES,
    VOLUME_MEASURE_MAX,
    VOLUME_MEASURE_PERIOD,
)
from pyswarm_core.volumes.volume import VolumeUsage

_log = EventLog("agent.volumes")

PAUSE_S = 2.0
"""Between two measurements, and between looks at which copies there are."""


class Measuring:
    """The sizes of the volumes of one host. `used`: the ids of the volumes that containers have."""

    def __init__(
        self,
        store: VolumeStore,
        mounts: Mounts,
        children: Children,
        *,
        outbox: Outbox,
        used: Callable[[], Collection[str]],
        clock: Clock,
    ) -> None:
        self._store = store
        self._mounts = mounts
        self._children = children
        self._outbox = outbox
        self._used = used
        self._clock = clock
        self._usage: dict[str, VolumeUsage] = {}
        self._names: dict[str, str] = {}
        self._due: dict[str, Instant] = {}
        self._in_use: frozenset[str] = frozenset()

    @property
    def measured(self) -> Mapping[str, tuple[str, VolumeUsage]]:
        """The name and usage of each copy that was measured, by id."""
        names, usage = self._names, dict(self._usage)
        return {i: (names[i], one) for i, one in usage.items() if i in names and one.measured_at}

    async def run(self) -> None:
        """Measure, until cancelled. What cannot be read now ends nothing else of the agent."""
        while True:
            try:
                await self.step()
            except (OSError, ValueError) as error:
                _log.warning("volume.measure_failed", error=error)
            await asyncio.sleep(PAUSE_S)

    async def step(self) -> None:
        """Look at which copies there are, and which are used; measure one that is due."""
        self._names = await asyncio.to_thread(self._store.names)
        for gone in self._usage.keys() - self._names.keys():
            del self._usage[gone]
        self._note_use()
        now = self._clock.now()
        self._due = {one: self._due.get(one, now) for one in self._names}
        waiting = [(at, one) for one, at in self._due.items() if at <= now]
        if waiting:
            _, volume_id = min(waiting)
            await self._measure(volume_id)

    def _note_use(self) -> None:
        used = frozenset(self._used()) & self._names.keys()
        for volume_id in used ^ (self._in_use & self._names.keys()):
            self._put(volume_id, last_used_at=self._clock.now())
        self._in_use = used

    async def _measure(self, volume_id: str) -> None:
        paths = self._store.paths(volume_id)
        self._due[volume_id] = Instant(self._clock.now() + VOLUME_MEASURE_PERIOD)
        is_mounted = volume_id in self._mounts.mounted
        if not is_mounted and (paths.foreign.exists() or paths.image.exists()):
            return  # what was measured last is what is there
        try:
            found = await self._children.ask(
                "measure", VOLUME_MEASURE_MAX, path=str(paths.data), entries=VOLUME_MEASURE_ENTRIES
            )
        except RuntimeFailed as error:
            name = self._names.get(volume_id, "")
            _log.warning("volume.measure_failed", volume=volume_id, name=name, error=error)
            return
        size, inodes = found["bytes"], found["inodes"]
        self._put(volume_id, bytes=size, inodes=inodes, measured_at=self._clock.now())

    def _put(self, volume_id: str, **fields: int) -> None:
        usage = replace(self._usage.get(volume_id, VolumeUsage()), **fields)
        self._usage[volume_id] = usage
        self._outbox.volume_measured(volume_id, usage)
