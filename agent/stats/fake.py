"""Samples of fake containers for tests: each has one process that uses what `used` says."""

import time
from collections.abc import Mapping, Sequence

from agent.runtime.base import Details, Stats
from agent.stats.base import Sample, Traffic
from agent.tasks.record import Record
from pyswarm_core.ids import TaskId


class FakeMeter:
    """`Meter` without a kernel."""

    def __init__(self) -> None:
        self.used: dict[str, Stats] = {}
        """By task; of one that is missing there is no container."""
        self.traffic: dict[str, Traffic] = {}
        self.reads: list[tuple[str, ...]] = []
        """The tasks of each read."""

    def read(self, records: Sequence[Record], *, details: bool) -> Mapping[TaskId, Sample]:
        """See `Meter`."""
        self.reads.append(tuple(record.task_id for record in records))
        return {
            record.task_id: Sample(
                time.monotonic_ns(),
                self.used[record.task_id],
                self.traffic.get(record.task_id),
                Details() if details else None,
            )
            for record in records
            if record.task_id in self.used
        }
