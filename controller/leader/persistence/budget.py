"""How much may be written because of agents' reports. PURE (mutable; time is an argument).

A token bucket of bytes. Nothing is refused: who is in debt writes later, so that what changes
meanwhile is written once. The debt is bounded, as users' changes are written whatever it is.
"""

from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.limits import (
    STATUS_BYTES_BURST,
    STATUS_BYTES_PER_SECOND,
    STATUS_DELAY_MAX,
    TXN_IN_FLIGHT,
    TXN_PUTS,
)

_DEBT_MAX = STATUS_BYTES_PER_SECOND * STATUS_DELAY_MAX // SECOND

FLUSH_CHUNKS = TXN_PUTS * TXN_IN_FLIGHT
"""Written behind per turn at most, so that a storm of reports holds up no decision."""


class Budget:
    """Bytes that may be written."""

    def __init__(self, now: Instant) -> None:
        self._left = STATUS_BYTES_BURST
        self._at = now
        self._chunk = 1
        """Bytes of a chunk, on average of those written last."""

    def chunks(self, most: int, now: Instant) -> int:
        """How many chunks to write now; always one, so that it goes on."""
        return max(1, min(most, self.left(now) // self._chunk))

    def flushed(self, size: int, chunks: int, now: Instant) -> None:
        """So many bytes of so many chunks were written."""
        self._chunk = 1 + size // max(1, chunks)
        self.spend(size, now)

    def spend(self, size: int, now: Instant) -> None:
        """So many bytes were written."""
        self._left = max(-_DEBT_MAX, self.left(now) - size)
        self._at = now

    def left(self, now: Instant) -> int:
        """What may be written now; negative in debt."""
        earned = STATUS_BYTES_PER_SECOND * max(0, now - self._at) // SECOND
        return min(STATUS_BYTES_BURST, self._left + earned)

    def ready_at(self) -> Instant:
        """When it is in debt no more."""
        owed = max(0, -self._left)
        return Instant(self._at + -(-owed * SECOND // STATUS_BYTES_PER_SECOND))
