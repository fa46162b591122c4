"""Deletes copies of volumes, as the controller requests and for no other reason. SHELL.

A copy is deleted once no container of this host has it. The controller requests it again in every
full assignment until it is told that the copy is gone, so nothing of this is recorded here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from agent.assignment import Assignment
from agent.outbox import Outbox
from agent.tasks.record import Record
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import Backoff
from pyswarm_core.ids import TaskId

_log = EventLog("agent.volumes")

REMOVE_RETRY_S = (0.2, 1.0, 5.0, 30.0)


class Removals:
    """The removals of one host. `remove` deletes a copy; `records` are those of the worker; `ended`
    returns an event that is set once nothing of a task is left but its log.
    """

    def __init__(
        self,
        remove: Callable[[str], Awaitable[None]],
        outbox: Outbox,
        records: Callable[[], Mapping[TaskId, Record]],
        ended: Callable[[TaskId], asyncio.Event],
    ) -> None:
        self._delete = remove
        self._outbox = outbox
        self._records = records
        self._ended = ended
        self._requested: dict[str, None] = {}
        self._under_way: set[str] = set()
        self._wake = asyncio.Event()

    def assigned(self, assignment: Assignment) -> None:
        """Delete the copies whose removal the assignment requests."""
        self._requested.update(dict.fromkeys(assignment.removed_volumes))
        self._wake.set()

    async def run(self) -> None:
        """Delete what is requested, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._wake.wait()
                self._wake.clear()
                requested, self._requested = self._requested, {}
                for volume_id in requested:
                    if volume_id not in self._under_way:
                        self._under_way.add(volume_id)
                        group.create_task(self._remove(volume_id))

    async def _remove(self, volume_id: str) -> None:
        backoff = Backoff(*REMOVE_RETRY_S)
        while True:
            while (task_id := self._user(volume_id)) is not None:
                await self._ended(task_id).wait()
            try:
                await self._delete(volume_id)
            except OSError as error:
                pause_s = backoff.next_s()
                _log.warning("volume.remove_failed", volume=volume_id, error=error, retry_s=pause_s)
                await asyncio.sleep(pause_s)
            else:
                break
        self._under_way.discard(volume_id)
        self._outbox.volume_removed(volume_id)

    def _user(self, volume_id: str) -> TaskId | None:
        """A task whose container has the volume, or may have it."""
        for task_id, record in self._records().items():
            if not record.clean and volume_id in record.volumes.values():
                return task_id
        return None
