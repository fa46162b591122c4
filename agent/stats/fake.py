"""Samples of fake containers for tests. A container uses processor time by being read."""

import time
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from agent.runtime.base import Details, Stats
from agent.stats.base import Sample, Traffic
from agent.tasks.record import Record
from pyswarm_core.ids import TaskId


class FakeMeter:
    """`Meter` without a kernel."""

    def __init__(self) -> None:
        self.used: dict[str, Stats] = {}
        """By task; of one that is missing there is no container."""
        self.details: dict[str, Details] = {}
        self.traffic: dict[str, Traffic] = {}
        self.reads: list[tuple[str, ...]] = []
        """The tasks of each read."""

    def read(self, records: Sequence[Record], *, details: bool) -> Mapping[TaskId, Sample]:
        """See `Meter`."""
        self.reads.append(tuple(record.task_id for record in records))
        return {
            record.task_id: self._sample(record.task_id, details=details)
            for record in records
            if record.task_id in self.used
        }

    def _sample(self, task_id: TaskId, *, details: bool) -> Sample:
        stats = self.used[task_id]
        self.used[task_id] = replace(stats, cpu_ns=stats.cpu_ns + 1)
        more = self.details.get(task_id, Details()) if details else None
        return Sample(time.monotonic_ns(), stats, self.traffic.get(task_id), more)
