"""Counts the restarts of slots on this node: starts after a former task of the same spec ended.
PURE, but for its state.

A counter begins at 0 with its agent, as every counter of a process does.
"""

from agent.tasks.record import Record
from pyswarm_core.ids import ServiceId
from pyswarm_core.limits import NODE_TASKS_LIMIT

_Slot = tuple[ServiceId, int]


class Restarts:
    """The slots of which a task ended on this node since the agent started."""

    def __init__(self) -> None:
        self._ended: dict[_Slot, int] = {}
        """The spec version of the task that ended last."""
        self._counts: dict[_Slot, int] = {}

    def moved(self, before: Record, after: Record) -> None:
        """A task changed its state."""
        slot = _slot(after)
        if after.ended and not before.ended and before.process_runs:
            self._counts[slot] = self._counts.pop(slot, 0)  # the newest at the end
            self._ended[slot] = after.spec_version
            while len(self._counts) > NODE_TASKS_LIMIT:
                oldest = next(iter(self._counts))
                del self._counts[oldest]
                self._ended.pop(oldest, None)
            return
        starts = after.process_runs and not before.process_runs
        if starts and self._ended.pop(slot, None) == after.spec_version:
            self._counts[slot] += 1

    def of(self, record: Record) -> int:
        """The restarts of the task's slot."""
        return self._counts.get(_slot(record), 0)


def _slot(record: Record) -> _Slot:
    return record.service_id, record.slot
