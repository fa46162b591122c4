"""Statuses to send to the controller: only the latest of each task. Bounded by the number of tasks.

Losing them is harmless: a new session begins with a full report.
"""

import asyncio

from pyswarm_core.ids import TaskId
from pyswarm_core.limits import ECHOES_AT_ONCE
from pyswarm_core.objects import TaskStatus


class Outbox:
    """Coalesces statuses until the session sends them."""

    def __init__(self) -> None:
        self._statuses: dict[TaskId, TaskStatus] = {}
        self._revision = 0
        self._digest = 0
        self._probed: dict[str, bool] = {}
        self._removed_volumes: dict[str, None] = {}
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

    def drain(self, limit: int) -> tuple[list[TaskStatus], int, int]:
        """Remove and return at most `limit` statuses, oldest first, and the revision to acknowledge
        (0: none) with its digest.
        """
        taken = [self._statuses.pop(task_id) for task_id in list(self._statuses)[:limit]]
        revision, self._revision = self._revision, 0
        if not self._statuses:
            self._filled.clear()
        return taken, revision, self._digest

    def clear(self) -> None:
        """Drop everything: a full report follows, and a full assignment after it."""
        self._statuses.clear()
        self._revision = 0
        self._probed.clear()
        self._removed_volumes.clear()
        self._filled.clear()
