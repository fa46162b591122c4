"""How large the log of transactions gets that etcd keeps in memory. PURE (mutable).

etcd 3.4 keeps its newest transactions in memory for members that lag, counted and not weighed:
5,000 of them and those since the last snapshot, which no setting changes. A megabyte each were
gigabytes. What bounds them by weight is small transactions among the large ones.
"""

SNAPSHOT_ENTRIES = 1_000
"""Transactions between two snapshots."""
ENTRIES = 5_000 + SNAPSHOT_ENTRIES
LOG_BYTES = 128 * 1024 * 1024
"""What the log may weigh once over; any ENTRIES in a row weigh at most twice as much."""

_FREE = LOG_BYTES / ENTRIES
"""What a transaction may weigh without any other's having to weigh less: 22 kB."""


class EntryLog:
    """A leaky bucket of bytes that leaks with every transaction."""

    def __init__(self) -> None:
        self._level = 0.0

    def wrote(self, size: int) -> int:
        """A transaction of that many bytes was written: how many empty ones are to follow it."""
        self._level = max(0.0, self._level + size - _FREE)
        due = max(0, -int((LOG_BYTES - self._level) // _FREE))
        self._level -= due * _FREE
        return due
