"""The size of the log of transactions that etcd keeps in memory. PURE (mutable).

etcd 3.4 keeps its newest transactions in memory for members that lag, bounded by number and not by
size: 5,000 of them and those since the last snapshot, which no setting changes. With a megabyte
each they are gigabytes. Small transactions among the large ones bound their size.
"""

SNAPSHOT_ENTRIES = 1_000
"""Transactions between two snapshots."""
ENTRIES = 5_000 + SNAPSHOT_ENTRIES
LOG_BYTES = 128 * 1024 * 1024
"""The intended size of the log; any ENTRIES in a row have at most twice as much."""

_FREE = LOG_BYTES / ENTRIES
"""The size of a transaction that needs no small ones: 22 kB."""


class EntryLog:
    """A leaky bucket of bytes that leaks with every transaction."""

    def __init__(self) -> None:
        self._level = 0.0

    def wrote(self, size: int) -> int:
        """Count a written transaction of that many bytes; return how many empty ones should follow
        it.
        """
        self._level = max(0.0, self._level + size - _FREE)
        due = max(0, -int((LOG_BYTES - self._level) // _FREE))
        self._level -= due * _FREE
        return due
