"""Statuses to send to the controller: only the latest of each task. Bounded by the number of tasks.

Losing them is harmless: a new session begins with a full report.
"""

import asyncio
from itertools import islice

from pyswarm_core.ids import TaskId
from pyswarm_core.limits import ECHOES_AT_ONCE
from pyswarm_core.objects import TaskStatus
from pyswarm_core.volumes.volume import VolumeUsage


class Outbox:
    """Coalesces statuses until the session sends them."""

    def __init__(self) -> None:
        self._statuses: dict[TaskId, TaskStatus] = {}
        self._revision = 0
        self._digest = 0
        self._probed: dict[str, bool] = {}
        self._removed_volumes: dict[str, None] = {}
        self._sources: dict[str, str] = {}
        self._usage: dict[str, VolumeUsage] = {}
        self._measured: dict[str, None] = {}
        """Volumes whose usage is to be sent."""
        self._filled = asyncio.Event()

    def put(self, status: TaskStatus) -> None:
        """Queue a status; it replaces an earlier one of the task."""
        self._statuses[status.task_id] = status
        self._filled.set()

    def acknowledge(self, revision: int, digest: int) -> None:
        """Queue an acknowledgement: this node's kernel is configured as of this store revision;
        `digest` is that of its endpoints.
        """
        if revision >= self._revision:
            self._revision, self._digest = revision, digest
            self._filled.set()

    def probed(self, node_id: str, answered: bool) -> None:
        """Queue the result of a probe that the leader requested. At most ECHOES_AT_ONCE are queued:
        no more probes run at once.
        """
        if len(self._probed) < ECHOES_AT_ONCE:
            self._probed[node_id] = answered
            self._filled.set()

    def volume_removed(self, volume_id: str) -> None:
        """Queue that this node has no copy of a volume any more."""
        self._removed_volumes[volume_id] = None
        self._usage.pop(volume_id, None)
        self._filled.set()

    def volume_measured(self, volume_id: str, usage: VolumeUsage) -> None:
        """Queue what a copy of this node uses. It is kept, and sent again in a new session."""
        self._usage[volume_id] = usage
        self._measured[volume_id] = None
        self._filled.set()

    def source(self, path: str, found: str) -> None:
        """Queue whether this node has the source of a bind: present, absent or unclear. At most
        BIND_SOURCES_MAX are queued: no more are looked for.
        """
        self._sources[path] = found
        self._filled.set()

    async def wait(self) -> None:
        """Return once there is something to send."""
        await self._filled.wait()

    def take_probed(self) -> dict[str, bool]:
        """Remove and return the results of probes, by node."""
        taken, self._probed = self._probed, {}
        return taken

    def take_removed_volumes(self) -> list[str]:
        """Remove and return the volumes of which this node has no copy any more."""
        taken, self._removed_volumes = list(self._removed_volumes), {}
        return taken

    def take_measured(self, limit: int) -> dict[str, VolumeUsage]:
        """Remove and return what at most `limit` copies use, by volume."""
        taken = list(islice(self._measured, limit))
        for volume_id in taken:
            del self._measured[volume_id]
        return {one: self._usage[one] for one in taken if one in self._usage}

    def take_sources(self) -> dict[str, str]:
        """Remove and return what was found of sources of binds, by path."""
        taken, self._sources = self._sources, {}
        return taken

    def drain(self, limit: int) -> tuple[list[TaskStatus], int, int]:
        """Remove and return at most `limit` statuses, oldest first, and the revision to acknowledge
        (0: none) with its digest.
        """
        taken = [self._statuses.pop(task_id) for task_id in list(self._statuses)[:limit]]
        revision, self._revision = self._revision, 0
        if not (self._statuses or self._measured):
            self._filled.clear()
        return taken, revision, self._digest

    def clear(self) -> None:
        """Drop everything: a full report follows, and a full assignment after it."""
        self._statuses.clear()
        self._revision = 0
        self._probed.clear()
        self._removed_volumes.clear()
        self._sources.clear()
        self._filled.clear()
        self._measured = dict.fromkeys(self._usage)
        if self._measured:
            self._filled.set()
