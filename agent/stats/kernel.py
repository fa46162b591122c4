"""Samples from cgroupfs and the host's network devices. SHELL."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from agent.network.names import Names
from agent.runtime.usage.reading import Reader
from agent.stats import interfaces
from agent.stats.base import Sample
from agent.tasks.record import Record
from pyswarm_core.ids import TaskId

# Of the process's namespace, whatever that of the calling thread is.
_DEVICES = Path("/proc/self/net/dev")


class KernelMeter:
    """`Meter` of a real host. `cgroup` returns the path of a container's cgroup."""

    def __init__(self, reader: Reader, cgroup: Callable[[str], str], names: Names) -> None:
        self._reader = reader
        self._cgroup = cgroup
        self._names = names

    def read(self, records: Sequence[Record], *, details: bool) -> Mapping[TaskId, Sample]:
        """See `Meter`."""
        ports = {record.task_id: interfaces.ports(record, self._names) for record in records}
        wanted = {port for found in ports.values() for port in found}
        counters = interfaces.parse(_DEVICES.read_bytes(), wanted)
        samples = {}
        for record in records:
            at_ns = time.monotonic_ns()
            usage = self._reader.read(self._cgroup(record.task_id), details=details)
            if usage is not None:
                traffic = interfaces.total(ports[record.task_id], counters)
                samples[record.task_id] = Sample(at_ns, usage.stats, traffic, usage.details)
        return samples
