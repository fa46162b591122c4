"""Time as a value. PURE: instants and durations are integers of nanoseconds, and no function here
reads a clock.

`Instant` counts nanoseconds since the Unix epoch. Durations are plain `int` nanoseconds, as in
Docker's API.
"""

from typing import NewType, Protocol, Self

Instant = NewType("Instant", int)

MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

NEVER = Instant(2**63 - 1)


class Clock(Protocol):
    """The clock of a shell, which passes the time to pure code as an argument."""

    def now(self) -> Instant:
        """Nanoseconds since the Unix epoch."""
        ...


class Backoff:
    """Pauses between attempts, in seconds: the given ones in turn, then the last one every time."""

    def __init__(self, *pauses_s: float) -> None:
        self._pauses_s = pauses_s
        self._attempts = 0

    @classmethod
    def doubling(cls, first_s: float, max_s: float) -> Self:
        """Each pause is twice the one before, and none is longer than `max_s`."""
        pauses_s = [first_s]
        while pauses_s[-1] < max_s:
            pauses_s.append(min(2 * pauses_s[-1], max_s))
        return cls(*pauses_s)

    def next_s(self) -> float:
        """The pause after an attempt that failed."""
        pause_s = self._pauses_s[min(self._attempts, len(self._pauses_s) - 1)]
        self._attempts += 1
        return pause_s

    def reset(self) -> None:
        """Begin again with the first pause, after an attempt that succeeded."""
        self._attempts = 0


def after(start: Instant, duration: int) -> Instant:
    """The instant `duration` nanoseconds after `start`; NEVER stays NEVER, and none is later."""
    end = start + duration
    return NEVER if start == NEVER or end > NEVER else Instant(end)


def seconds(duration: int) -> float:
    """Nanoseconds as seconds, for timeouts and metrics."""
    return duration / SECOND
