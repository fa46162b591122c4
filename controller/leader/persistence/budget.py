"""Limits the bytes written because of agents' reports. PURE (mutable; time is an argument).

A token bucket of bytes. Nothing is refused: in debt, reports are written later, so that several
changes of one chunk are written once. The debt is bounded, because users' changes are written in
any case.
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
"""Written behind per turn at most, so that many reports do not delay decisions."""


class Budget:
    """The bytes that may be written."""

    def __init__(self, now: Instant) -> None:
        self._left = STATUS_BYTES_BURST
        self._at = now
        self._chunk = 1
        """The average bytes of a chunk in the last flush."""

    def chunks(self, most: int, now: Instant) -> int:
        """How many chunks to write now; at least one."""
        return max(1, min(most, self.left(now) // self._chunk))

    def flushed(self, size: int, chunks: int, now: Instant) -> None:
        """`size` bytes of `chunks` chunks were written."""
        self._chunk = 1 + size // max(1, chunks)
        self.spend(size, now)

    def spend(self, size: int, now: Instant) -> None:
        """`size` bytes were written."""
        self._left = max(-_DEBT_MAX, self.left(now) - size)
        self._at = now

    def left(self, now: Instant) -> int:
        """What may be written now; negative in debt."""
        earned = STATUS_BYTES_PER_SECOND * max(0, now - self._at) // SECOND
        return min(STATUS_BYTES_BURST, self._left + earned)

    def ready_at(self) -> Instant:
        """When the debt is paid."""
        owed = max(0, -self._left)
        return Instant(self._at + -(-owed * SECOND // STATUS_BYTES_PER_SECOND))
