"""The kept writable layers of containers: one task at a time has a layer, and those that the
controller does not name any more are deleted. SHELL. The writable volumes of a slot have one task
at a time in the same way.

A layer is named by its container's service. A task waits with its preparation until the container
of the task before it is removed. A layer is deleted when a full assignment does not name it, or
another one removes it; never because no task has it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping

from agent.assignment import Assignment
from agent.runtime.base import Runtime
from agent.tasks.record import Record
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import Backoff
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.states import TaskState

_log = EventLog("agent.layers")

REMOVING_AT_ONCE = 1
"""A layer may have very many files, and threads that remove containers must not wait for it."""
REMOVE_RETRY_S = (0.2, 1.0, 5.0, 30.0)
_BEFORE_CREATION = frozenset({TaskState.ACCEPTED, TaskState.PREPARING})


def kept_addresses(records: Iterable[Record]) -> list[tuple[NetworkId, str]]:
    """The addresses that users chose for containers which have their layer here, also those that do
    not run.
    """
    return [one for record in records if record.layer for one in record.spec.task_ips.items()]


class Layers:
    """The layers of this host. `records` are those of the worker, which are only read."""

    def __init__(
        self,
        runtime: Runtime,
        records: Mapping[TaskId, Record],
        ended: Callable[[TaskId], asyncio.Event],
        spawn: Callable[[Coroutine[None, None, None]], object],
    ) -> None:
        """`ended` returns an event that is set once nothing of a task is left but its log."""
        self._runtime = runtime
        self._records = records
        self._ended = ended
        self._spawn = spawn
        self._removing = asyncio.Semaphore(REMOVING_AT_ONCE)
        self._to_remove: set[str] = set()
        # A former agent may have begun to make a container for any of these.
        preparing = (one for one in records.values() if one.state in _BEFORE_CREATION)
        self._creating = {one.task_id for one in preparing if one.claim}

    def released(self, task_id: TaskId) -> None:
        """The task has no container, as far as it was prepared, or is gone."""
        self._creating.discard(task_id)

    async def acquire(self, record: Record, report: Callable[[str], None]) -> None:
        """Return once no other task has the layer of the task, or the writable volumes of its slot:
        then it may be created.
        """
        if not record.claim:
            return
        what = "writable layer" if record.layer else "volumes"
        while (other := self._occupant(record.claim, record.task_id)) is not None:
            report(f"waiting for the container of task {other[:12]}, which has its {what}")
            await self._ended(other).wait()
        self._creating.add(record.task_id)

    def _occupant(self, claim: str, but: str = "") -> TaskId | None:
        """The task whose container has, or may have, what is claimed."""
        for task_id, record in self._records.items():
            if record.claim != claim or record.clean or task_id == but:
                continue
            if record.state not in _BEFORE_CREATION or task_id in self._creating:
                return task_id
        return None

    async def assigned(self, assignment: Assignment) -> None:
        """Delete the layers that this assignment does not keep, once no container has them."""
        gone = assignment.removed_layers
        if (kept := assignment.kept_layers) is not None:
            gone = tuple(layer for layer in await self._present() if layer not in kept)
        for layer in gone:
            if layer not in self._to_remove:
                self._to_remove.add(layer)
                self._spawn(self._remove(layer))

    async def _present(self) -> tuple[str, ...]:
        """The layers of this host; none if they cannot be listed, which the next full assignment
        makes up for.
        """
        try:
            return await self._runtime.layers()
        except Exception as error:
            _log.error("layers.list_failed", error=error)
            return ()

    async def _remove(self, layer: str) -> None:
        backoff = Backoff(*REMOVE_RETRY_S)
        while True:
            while (task_id := self._occupant(layer)) is not None:
                await self._ended(task_id).wait()
            try:
                async with self._removing:
                    await self._runtime.remove_layer(layer)
            except Exception as error:
                pause_s = backoff.next_s()
                _log.warning("layer.remove_failed", layer=layer, error=error, retry_s=pause_s)
                await asyncio.sleep(pause_s)
            else:
                self._to_remove.discard(layer)
                return
