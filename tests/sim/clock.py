"""Virtual time: one heap of everything that will happen, ordered by (instant, sequence).

Nothing here waits. Time jumps from one event to the next, so an idle hour costs nothing; equal
instants keep the order in which they were asked for, so a run can be repeated exactly.
"""

import heapq
from collections.abc import Callable

from pyswarm_core.clock import SECOND, Instant

EVENTS_MAX = 600_000
"""A run with more is spinning."""
EPOCH = Instant(1_700_000_000 * SECOND)
"""When every run begins."""

Event = Callable[[], None]


class Spinning(Exception):
    """Events beget events and hardly any time passes."""


class Scheduler:
    """What happens next, and when it is."""

    def __init__(self) -> None:
        self.now = EPOCH
        self._heap: list[tuple[int, int, Event]] = []
        self._sequence = 0
        self.events = 0
        """Events that have happened."""
        self.kept: list[object] = []
        """What must not be collected before the run is over: killed processes."""
        self.after_event: Event = lambda: None
        """Called when an event has happened."""
        self._stopped = False

    @property
    def elapsed(self) -> int:
        """Nanoseconds since the run began."""
        return self.now - EPOCH

    def at(self, instant: int, event: Event) -> None:
        """Let `event` happen then; the past is now."""
        self._sequence += 1
        heapq.heappush(self._heap, (max(instant, self.now), self._sequence, event))

    def after(self, delay: int, event: Event) -> None:
        """Let `event` happen `delay` nanoseconds from now."""
        self.at(self.now + delay, event)

    def every(self, period: int, event: Event) -> None:
        """Let `event` happen again and again, first after one period."""

        def again() -> None:
            event()
            self.after(period, again)

        self.after(period, again)

    def stop(self) -> None:
        """Let nothing more happen."""
        self._stopped = True

    def skip(self, duration: int) -> None:
        """Let this much time pass in which nothing happens: what was due later is as much later,
        as after a suspended machine's return; only clocks on walls show it.
        """
        self.now = Instant(self.now + duration)
        self._heap = [(at + duration, sequence, event) for at, sequence, event in self._heap]

    def run_until(self, instant: int) -> None:
        """Let everything happen that is due by then."""
        heap = self._heap
        while heap and heap[0][0] <= instant and not self._stopped:
            at, _, event = heapq.heappop(heap)
            self.now = Instant(at)
            self.events += 1
            if self.events > EVENTS_MAX:
                raise Spinning(f"{self.events} events by {self.elapsed / SECOND:.3f} s")
            event()
            self.after_event()
        if not self._stopped:
            self.now = Instant(max(self.now, instant))
