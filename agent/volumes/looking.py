"""Looks whether this host has the sources of binds that services need. SHELL over stat(2).

It informs the scheduler; the source is resolved again when a task starts. A file system that hangs
keeps a thread and makes its paths unclear, and nothing else: there are few of these threads, and no
shutdown waits for them.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import Enum
from pathlib import Path

from pyswarm_core.aio.logs import EventLog

_log = EventLog("agent.volumes")

PERIOD_S = 10.0
ANSWER_S = 1.0
"""A file system that has not answered by then is reported as unclear; half of what tasks wait."""
HANGING_MAX = 32
"""Threads that wait for file systems. With as many, nothing new is looked for until one answers."""


class Found(Enum):
    """What became of a look."""

    PRESENT = "present"
    ABSENT = "absent"
    UNCLEAR = "unclear"


Report = Callable[[str, str], None]


class Looking:
    """The sources that this host looks for; `report` is called with each news."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._wanted: dict[str, None] = {}
        self._told: dict[str, Found] = {}
        """What was reported in this session."""
        self._new: dict[str, None] = {}
        self._hanging: set[str] = set()
        self._wake = asyncio.Event()

    def wanted(self, paths: Iterable[str] | None) -> None:
        """Look for these, and for no others; for new ones at once. None: a session begins, whose
        controller knows nothing of this host and will name them.
        """
        if paths is None:
            self._wanted = {}
            self._told.clear()
            return
        self._wanted = dict.fromkeys(paths)
        self._told = {path: found for path, found in self._told.items() if path in self._wanted}
        self._new = {path: None for path in self._wanted if path not in self._told}
        self._wake.set()

    async def run(self) -> None:
        """Look periodically, and at once for new paths, until cancelled."""
        while True:
            due, self._new = self._new or dict(self._wanted), {}
            self._wake.clear()
            await self._look(tuple(due))
            if self._new:
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(PERIOD_S if self._wanted else None):
                    await self._wake.wait()

    async def _look(self, paths: tuple[str, ...]) -> None:
        rest = tuple(path for path in paths if path not in self._hanging)
        for path in paths:
            if path in self._hanging:
                self._note(path, Found.UNCLEAR)
        while rest and len(self._hanging) < HANGING_MAX:
            batch = _Batch(rest)
            threading.Thread(target=self._read, args=(batch,), name="sources", daemon=True).start()
            try:
                await batch.answers(ANSWER_S)
            finally:
                batch.is_abandoned = True
            if not (left := rest[batch.answered :]):
                return
            self._hanging.add(left[0])
            self._note(left[0], Found.UNCLEAR)
            rest = left[1:]
        for path in rest:
            self._note(path, Found.UNCLEAR)

    def _read(self, batch: "_Batch") -> None:
        """Runs in a thread of its own."""
        for path in batch.paths:
            exists = _exists(path)
            try:
                batch.loop.call_soon_threadsafe(self._answered, batch, path, exists)
            except RuntimeError:
                return  # the loop has ended meanwhile
            if batch.is_abandoned:
                return

    def _answered(self, batch: "_Batch", path: str, exists: bool) -> None:
        self._hanging.discard(path)
        if not batch.is_abandoned:
            self._note(path, Found.PRESENT if exists else Found.ABSENT)
            batch.answered += 1
            batch.progress.set()

    def _note(self, path: str, found: Found) -> None:
        if path not in self._wanted or self._told.get(path) is found:
            return
        if found is Found.UNCLEAR:
            _log.warning("bind.source_hangs", path=path)
        self._told[path] = found
        self._report(path, found.value)


class _Batch:
    """Paths that one thread looks for, one after the other."""

    def __init__(self, paths: tuple[str, ...]) -> None:
        self.paths = paths
        self.loop = asyncio.get_running_loop()
        self.progress = asyncio.Event()
        self.answered = 0
        self.is_abandoned = False
        """Nobody waits for the rest: one of them hangs."""

    async def answers(self, within_s: float) -> None:
        """Return once all are answered, or none was within the time."""
        while self.answered < len(self.paths):
            self.progress.clear()
            try:
                async with asyncio.timeout(within_s):
                    await self.progress.wait()
            except TimeoutError:
                return


def _exists(path: str) -> bool:
    """As the start of a task sees it: links are followed. What cannot be read is not there."""
    try:
        Path(path).stat()
    except (OSError, ValueError):
        return False
    return True
