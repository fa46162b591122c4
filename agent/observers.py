"""Observers of the agent's work, for metrics. PURE: protocols."""

from typing import Protocol

from agent.health.base import CheckObserver
from agent.tasks.record import Record


class TaskObserver(CheckObserver, Protocol):
    """Observes the changes of tasks' states, and their checks."""

    def moved(self, before: Record, after: Record) -> None:
        """A task changed its state; the records hold the times."""
        ...


class NetworkObserver(Protocol):
    """Observes the work on the host's network."""

    def synced(self, duration_s: float) -> None:
        """The kernel was configured as desired; it took this long."""
        ...

    def healed(self, drifts: int) -> None:
        """This many differences of the kernel from the desired state were corrected."""
        ...
