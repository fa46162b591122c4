"""What is told of progress to whoever measures it. PURE: protocols."""

from typing import Protocol

from agent.tasks.record import Record


class Stopwatch(Protocol):
    """Hears of every change of a task's state."""

    def moved(self, before: Record, after: Record) -> None:
        """A task moved on; its record carries the instants."""
        ...


class NetworkWatch(Protocol):
    """Hears of the work on the host's network."""

    def synced(self, duration_s: float) -> None:
        """The kernel was made as wanted; it took this long."""
        ...

    def healed(self, drifts: int) -> None:
        """So many things that somebody had disturbed are as wanted again."""
        ...
