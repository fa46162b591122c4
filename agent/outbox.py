"""Statuses on their way to the controller: only the latest of each task. Bounded by the number of
tasks.

Nothing is lost by forgetting this: a new session begins with a full report.
"""

import asyncio

from pyswarm_core.ids import TaskId
from pyswarm_core.limits import ECHOES_AT_ONCE
from pyswarm_core.objects import TaskStatus


class Outbox:
    """Coalesces statuses until a session drains them."""

    def __init__(self) -> None:
        self._statuses: dict[TaskId, TaskStatus] = {}
        self._revision = 0
        self._digest = 0
        self._probed: dict[str, bool] = {}
        self._filled = asyncio.Event()

    def put(self, status: TaskStatus) -> None:
        """Replace what was to be said of the task."""
        self._statuses[status.task_id] = status
        self._filled.set()

    def acknowledge(self, revision: int, digest: int) -> None:
        """Everything up to this store revision is true here; `digest` is that of the endpoints."""
        if revision >= self._revision:
            self._revision, self._digest = revision, digest
            self._filled.set()

    def probed(self, node_id: str, answered: bool) -> None:
        """The node's host was probed for the leader. At most ECHOES_AT_ONCE wait: so many are
        asked at once.
        """
        if len(self._probed) < ECHOES_AT_ONCE:
            self._probed[node_id] = answered
            self._filled.set()

    async def wait(self) -> None:
        """Return once there is something to say."""
        await self._filled.wait()

    def take_probed(self) -> dict[str, bool]:
        """Whether each probed host answered."""
        taken, self._probed = self._probed, {}
        return taken

    def drain(self, limit: int) -> tuple[list[TaskStatus], int, int]:
        """At most `limit` statuses, oldest first, and the revision to acknowledge (0: none) with
        its digest.
        """
        taken = [self._statuses.pop(task_id) for task_id in list(self._statuses)[:limit]]
        revision, self._revision = self._revision, 0
        if not self._statuses:
            self._filled.clear()
        return taken, revision, self._digest

    def clear(self) -> None:
        """Forget everything: a full report is about to be made, and a full assignment follows."""
        self._statuses.clear()
        self._revision = 0
        self._probed.clear()
        self._filled.clear()
