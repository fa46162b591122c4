"""What the worker tells of a task's progress to whoever measures it. PURE: a protocol."""

from typing import Protocol

from agent.tasks.record import Record


class Stopwatch(Protocol):
    """Hears of every change of a task's state."""

    def moved(self, before: Record, after: Record) -> None:
        """A task moved on; its record carries the instants."""
        ...
