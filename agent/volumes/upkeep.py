"""Work on the volumes of this host beside that for tasks: copies are deleted as requested, file
systems that no container has are unmounted. SHELL.
"""

import asyncio
from collections.abc import Callable, Mapping

from agent.assignment import Assignment, drivers_of
from agent.outbox import Outbox
from agent.runtime.base import RuntimeFailed
from agent.tasks.record import Record
from agent.volumes.removing import Removals
from agent.volumes.volumes import Volumes
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.ids import TaskId

_log = EventLog("agent.volumes")

RELEASE_PERIOD_S = 2.0


class Upkeep:
    """The work on the volumes of one host. `records` are those of the worker; `ended` returns an
    event that is set once nothing of a task is left but its log.
    """

    def __init__(
        self,
        volumes: Volumes,
        outbox: Outbox,
        records: Callable[[], Mapping[TaskId, Record]],
        ended: Callable[[TaskId], asyncio.Event],
    ) -> None:
        self._volumes = volumes
        self._records = records
        self.measuring = volumes.measuring(outbox, self._used, SystemClock())
        self._releasing: set[str] = set()
        self._removals = Removals(volumes.remove, outbox, records, ended)

    def assigned(self, assignment: Assignment) -> None:
        """Take from an assignment what concerns volumes."""
        self._volumes.learn(drivers_of(assignment))
        self._removals.assigned(assignment)

    async def run(self) -> None:
        """Work, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._removals.run())
            group.create_task(self.measuring.run())
            while True:
                mounted = self._volumes.mounts.mounted
                unused = mounted - self._used() if mounted else ()
                for volume_id in sorted(set(unused) - self._releasing):
                    self._releasing.add(volume_id)
                    group.create_task(self._release(volume_id))
                await asyncio.sleep(RELEASE_PERIOD_S)

    async def _release(self, volume_id: str) -> None:
        try:
            await self._volumes.release(volume_id, self._used)
        except (OSError, RuntimeFailed) as error:
            _log.error("volume.release_failed", volume=volume_id, error=error)
        finally:
            self._releasing.discard(volume_id)

    def _used(self) -> set[str]:
        """The ids of the volumes that a container has, or may have."""
        records = self._records().values()
        return {one for record in records if not record.clean for one in record.volumes.values()}
