"""Samples of containers, and the `Meter` protocol. PURE: values only.

`kernel.py` (real) and `fake.py` (in memory) implement `Meter` and pass the same contract tests.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from agent.runtime.base import Details, Stats
from agent.tasks.record import Record
from pyswarm_core.ids import TaskId


class Traffic(NamedTuple):
    """What passed the interfaces of a container since it was made, as the container sees it."""

    received_bytes: int = 0
    received_packets: int = 0
    received_drops: int = 0
    sent_bytes: int = 0
    sent_packets: int = 0
    sent_drops: int = 0

    def plus(self, other: "Traffic") -> "Traffic":
        """The sums."""
        return Traffic(*(mine + its for mine, its in zip(self, other, strict=True)))


class Sample(NamedTuple):
    """One reading of a container, at an instant of the monotonic clock in nanoseconds."""

    at_ns: int
    stats: Stats
    traffic: Traffic | None
    """None: it has no interface of its own."""
    details: Details | None = None
    """Only in samples for metrics."""


class Meter(Protocol):
    """Reads containers. From any thread; blocks, for a fifth of a millisecond per container."""

    def read(self, records: Sequence[Record], *, details: bool) -> Mapping[TaskId, Sample]:
        """A sample of each task whose container exists."""
        ...
