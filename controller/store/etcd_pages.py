"""The next page of a range that is too large for one answer. PURE.

etcd counts every remaining key for each page, so paging through one long range costs the square of
its size. A long remainder is therefore halved by key until the parts are short; this needs no
knowledge about the keys.
"""

from typing import NamedTuple

from controller.store.etcd_messages import is_open, key_after

PAGE_BYTES = 4 * 1024 * 1024
"""The intended size of one page."""

SPLIT_KEYS = 20_000
"""A longer remainder is halved."""

_FIRST_LIMIT = 512
_LIMIT_MAX = 10_000
_DEPTH = 8
"""Bytes after the common prefix that a halving looks at."""


class _Span(NamedTuple):
    """A range to read, and how many keys it holds (0: unknown)."""

    first: bytes
    end: bytes
    keys: int


class Pages:
    """The ranges to read, and the limit for the next page. One request at a time.

    The upper half of a long range is read first: if it is empty that costs nothing, and in either
    case the size of the lower half follows. So keys come in no particular order.
    """

    def __init__(self, first: bytes, end: bytes) -> None:
        self.limit = _FIRST_LIMIT
        self._spans = [_Span(first, end, 0)]
        self._popped = self._spans[0]
        self._middle: bytes | None = None

    def next_range(self) -> tuple[bytes, bytes] | None:
        """The next range to request; None when everything has been read."""
        if not self._spans:
            return None
        span = self._popped = self._spans.pop()
        self._middle = halve(span.first, span.end) if span.keys > SPLIT_KEYS else None
        return self._middle or span.first, span.end

    def got(self, last_key: bytes, returned: int, counted: int) -> None:
        """Record a page: it held `returned` of the `counted` keys of the range, up to last_key."""
        first, end, keys = self._popped
        if self._middle is not None and keys > counted:
            self._spans.append(_Span(first, self._middle, keys - counted))
        if counted > returned:
            self._spans.append(_Span(key_after(last_key), end, counted - returned))

    def weighed(self, keys: int, size_bytes: int) -> None:
        """Adapt the limit to the sizes of the last page's keys."""
        average = max(1, size_bytes // max(1, keys))
        self.limit = min(max(PAGE_BYTES // average, 1), _LIMIT_MAX)

    def too_large(self) -> bool:
        """The answer was too large: request fewer keys. False if it was one key."""
        if self.limit == 1:
            return False
        self.limit = max(1, self.limit // 4)
        self._spans.append(self._popped)
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
