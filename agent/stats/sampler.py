"""Samples the containers of this node on demand, once for all who ask at a time. SHELL.

Nothing is read while nobody asks. A sample that is young enough answers whoever asks next.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import NamedTuple

from agent.stats.base import Meter, Sample
from agent.tasks.record import Record
from pyswarm_core.clock import MINUTE
from pyswarm_core.ids import TaskId

_KEPT_NS = MINUTE


class Measured(NamedTuple):
    """A task whose process runs, and a sample of its container."""

    record: Record
    sample: Sample


class Sampler:
    """`records` returns the records of all tasks of this node. `memory_bytes` is its memory, the
    limit of containers without one.
    """

    def __init__(
        self, meter: Meter, records: Callable[[], Mapping[TaskId, Record]], memory_bytes: int
    ) -> None:
        self.memory_bytes = memory_bytes
        self._meter = meter
        self._records = records
        self._samples: dict[TaskId, Sample] = {}
        self._lock = Lock()

    def sample(
        self,
        max_age_ns: int,
        *,
        wanted: Callable[[Record], bool] = lambda _: True,
        details: bool = False,
    ) -> Sequence[Measured]:
        """The wanted tasks whose containers exist, each with a sample of at most that age.

        Blocks, in a thread; those who call at the same time share the reading.
        """
        # A copy: the event loop changes the records meanwhile.
        records = [
            one for one in list(self._records().values()) if one.process_runs and wanted(one)
        ]
        with self._lock:
            now = time.monotonic_ns()
            kept = {key: s for key, s in self._samples.items() if now - s.at_ns < _KEPT_NS}
            stale = [
                record
                for record in records
                if (known := kept.get(record.task_id)) is None
                or now - known.at_ns > max_age_ns
                or (details and known.details is None)
            ]
            if stale:
                fresh = self._meter.read(stale, details=details)
                for record in stale:
                    kept.pop(record.task_id, None)
                kept.update(fresh)
            self._samples = kept
            return [Measured(r, kept[r.task_id]) for r in records if r.task_id in kept]
