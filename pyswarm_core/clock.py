"""Time as a value. PURE: instants and durations are integers of nanoseconds, and no function here
reads a clock.

`Instant` counts nanoseconds since the Unix epoch. Durations are plain `int` nanoseconds, as in
Docker's API.
"""

from typing import NewType, Protocol

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


def after(start: Instant, duration: int) -> Instant:
    """The instant `duration` nanoseconds after `start`; NEVER stays NEVER, and none is later."""
    end = start + duration
    return NEVER if start == NEVER or end > NEVER else Instant(end)


def seconds(duration: int) -> float:
    """Nanoseconds as seconds, for timeouts and metrics."""
    return duration / SECOND
