"""Which lines of a log a reader gets. PURE."""

import msgspec

from agent.runtime.logs.lines import Lines
from pyswarm_core.logs.lines import PARTIAL, LogPlace
from pyswarm_core.logs.patterns import Pattern


class LogQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Lines to read: of those from `since_ns` to `until_ns` (0: no bound) that match, the last
    `tail` (-1: all), and new ones with `follow`.
    """

    tail: int = -1
    since_ns: int = 0
    until_ns: int = 0
    matches: Pattern | None = None
    follow: bool = False
    place: LogPlace | None = None
    """Where reading is resumed, in place of `tail`."""

    @property
    def counts_all(self) -> bool:
        """Whether every line at the end of the log counts as one of `tail`."""
        return not (self.matches or self.until_ns)


class Selection:
    """Passes the chosen lines on; leaves out the first `skip` of them."""

    def __init__(self, query: LogQuery, skip: int = 0) -> None:
        self._until_ns = query.until_ns
        self.matches = query.matches
        self._skip = skip
        self.is_over = False
        """A line after `until_ns` was seen; what comes later is, too."""

    def of(self, lines: Lines) -> Lines:
        """The chosen ones of the log's next lines."""
        if self._until_ns and lines.at and max(lines.at) > self._until_ns:
            self.is_over = True
            late = (n for n, at_ns in enumerate(lines.at) if at_ns > self._until_ns)
            lines = lines.cut(0, next(late))
        if self.matches is not None and lines:
            lines = lines.chosen(self.matches.matching(lines.texts))
            # The rest of a line may not match: each part is a line.
            lines.marks = bytearray(mark & ~PARTIAL for mark in lines.marks)
        if self._skip and lines:
            left = min(self._skip, len(lines))
            self._skip -= left
            lines = lines.cut(left, len(lines))
        return lines
