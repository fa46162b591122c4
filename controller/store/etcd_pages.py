"""Which keys to ask for next when a range is too large for one answer. PURE.

etcd counts every remaining key for each page, so paging through one long range costs the square of
its size. Here a long remainder is halved by key until the parts are short: every answer is a page
of progress, and nothing need be known about the keys.
"""

from controller.store.etcd_messages import is_open, key_after

PAGE_BYTES = 4 * 1024 * 1024
"""What one page should weigh."""

SPLIT_KEYS = 20_000
"""A longer remainder is halved."""

_FIRST_LIMIT = 512
_LIMIT_MAX = 10_000
_DEPTH = 8
"""Bytes after the common prefix that a halving looks at."""


class Pages:
    """The ranges still to be read, nearest first, and the limit for the next page."""

    def __init__(self, first: bytes, end: bytes) -> None:
        self.limit = _FIRST_LIMIT
        self._ranges = [(first, end)]

    def next_range(self) -> tuple[bytes, bytes] | None:
        """Take the range to ask for now; None when everything has been read."""
        return self._ranges.pop() if self._ranges else None

    def got(self, last_key: bytes, end: bytes, keys_left: int) -> None:
        """The page ended at last_key and keys_left more lie between there and the range's end."""
        if not keys_left:
            return
        first = key_after(last_key)
        middle = halve(first, end) if keys_left > SPLIT_KEYS else None
        if middle is None:
            self._ranges.append((first, end))
        else:
            self._ranges += [(middle, end), (first, middle)]

    def weighed(self, keys: int, size_bytes: int) -> None:
        """Fit the limit to what the last page's keys weighed."""
        average = max(1, size_bytes // max(1, keys))
        self.limit = min(max(PAGE_BYTES // average, 1), _LIMIT_MAX)

    def too_large(self, first: bytes, end: bytes) -> bool:
        """The answer did not fit: ask for less of the same range. False if it was one key."""
        if self.limit == 1:
            return False
        self.limit = max(1, self.limit // 4)
        self._ranges.append((first, end))
        return True


def halve(first: bytes, end: bytes) -> bytes | None:
    """A key about half way between two keys; None if there is no upper bound or no room."""
    if is_open(end):
        return None
    shared = 0
    while shared < min(len(first), len(end)) and first[shared] == end[shared]:
        shared += 1
    low = _number(first[shared:])
    middle = (low + _number(end[shared:])) // 2
    if middle <= low:
        return None
    return first[:shared] + middle.to_bytes(_DEPTH, "big")


def _number(key: bytes) -> int:
    return int.from_bytes(key[:_DEPTH].ljust(_DEPTH, b"\x00"), "big")
