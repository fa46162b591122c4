"""From the bytes of a log to lines, in columns. PURE.

A line whose end is missing is partial: its text is printed without a newline, and the next line of
its stream continues it.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from pyswarm_core.logs.limits import LOG_LINE_BYTES
from pyswarm_core.logs.lines import PARTIAL, STDERR

PAUSES_MAX = 5
"""A line that grows for longer shows progress, as a row of dots does."""
_RECORD = re.compile(rb"(\S{19})\.(\d{9})(Z|[+-]\d\d:\d\d) std(out|err) ([FP]) (.*)\n")
_RECORD_BYTES_MAX = 2 * LOG_LINE_BYTES


class Lines(msgspec.Struct, gc=False):
    """Lines in columns: when each ended (nanoseconds since 1970), its marks, and its text without
    its newline.
    """

    at: list[int] = []
    marks: bytearray = bytearray()
    texts: list[bytes] = []
    position: bytes = b""
    """Where reading can be resumed after these lines; empty: nowhere between the last and them."""

    def __len__(self) -> int:
        return len(self.at)

    def cut(self, start: int, end: int) -> "Lines":
        """The lines from `start` to before `end`."""
        return Lines(self.at[start:end], self.marks[start:end], self.texts[start:end])

    def chosen(self, indexes: Iterable[int]) -> "Lines":
        """The lines of these indexes."""
        found = tuple(indexes)
        return Lines(
            [self.at[index] for index in found],
            bytearray([self.marks[index] for index in found]),
            [self.texts[index] for index in found],
        )


class _Held:
    """The beginning of a line of one stream."""

    def __init__(self) -> None:
        self.at_ns = 0
        self.pieces: list[bytes] = []
        self.size = 0
        self.size_before = -1
        """At the last pause."""
        self.pauses = 0


class LineJoiner:
    """Splits the bytes of a log into lines, joining the pieces of each stream. PURE.

    Records before `since_ns` are left out, pieces of lines included. A line of which a part was
    yielded is not joined: its further pieces are parts. `in_parts` are the streams (`out`, `err`)
    of which that is true where reading is resumed.
    """

    def __init__(self, since_ns: int = 0, in_parts: Iterable[str] = ()) -> None:
        self._since_ns = since_ns
        self._in_parts = {stream.encode() for stream in in_parts}
        self._rest = b""
        self._held: dict[bytes, _Held] = {}
        self._second = b""
        self._second_ns = 0

    def feed(self, block: bytes) -> Lines:
        """The lines that `block` completes. Malformed records are skipped."""
        data = self._rest + block
        end = data.rfind(b"\n") + 1
        self._rest = data[end:] if len(data) - end <= _RECORD_BYTES_MAX else b""
        lines = Lines()
        at, marks, texts = lines.at, lines.marks, lines.texts
        since_ns, held, in_parts = self._since_ns, self._held, self._in_parts
        known, known_ns = self._second, self._second_ns
        for second, fraction, zone, stream, flag, text in _RECORD.findall(data, 0, end):
            if second + zone != known:
                if (read_ns := _seconds_ns(second + zone)) < 0:
                    continue
                known, known_ns = second + zone, read_ns
            at_ns = known_ns + int(fraction)
            if at_ns < since_ns:
                continue
            mark = STDERR if stream == b"err" else 0
            if flag == b"P" or stream in held or stream in in_parts:
                joined = self._joined(stream, at_ns, flag == b"P", text)
                if joined is None:
                    continue
                text, partial = joined
                mark |= partial
            at.append(at_ns)
            marks.append(mark)
            texts.append(text)
        self._second, self._second_ns = known, known_ns
        return lines

    def _joined(
        self, stream: bytes, at_ns: int, is_piece: bool, text: bytes
    ) -> tuple[bytes, int] | None:
        """The text of the line so far and its mark, if it is due."""
        if stream in self._in_parts:
            if is_piece:
                return text, PARTIAL
            self._in_parts.discard(stream)
            return text, 0
        held = self._held.get(stream)
        if held is None:
            held = self._held[stream] = _Held()
        held.at_ns = at_ns
        held.pieces.append(text)
        held.size += len(text)
        if is_piece and held.size < LOG_LINE_BYTES:
            return None
        del self._held[stream]
        if is_piece:
            self._in_parts.add(stream)
        return b"".join(held.pieces), PARTIAL if is_piece else 0

    @property
    def holds(self) -> bool:
        """Whether a line is unfinished."""
        return bool(self._held)

    @property
    def in_parts(self) -> list[str]:
        """The streams of whose last line a part was yielded."""
        return sorted(stream.decode() for stream in self._in_parts)

    @property
    def rest_size(self) -> int:
        """The bytes of the last block that end no record yet."""
        return len(self._rest)

    def drop_rest(self) -> None:
        """Forget a record whose end will not come: the file was cut."""
        self._rest = b""

    def pause(self) -> Lines:
        """Called once per PAUSE_S: the unfinished lines that have not grown since the last call,
        and those held for PAUSES_MAX calls, as partial ones.
        """
        due = []
        for stream, held in self._held.items():
            held.pauses += 1
            if held.size == held.size_before or held.pauses >= PAUSES_MAX:
                due.append(stream)
            held.size_before = held.size
        return self._flushed(due)

    def flush(self) -> Lines:
        """The unfinished lines, as partial ones."""
        return self._flushed(list(self._held))

    def _flushed(self, streams: Sequence[bytes]) -> Lines:
        lines = Lines()
        for stream in sorted(streams, key=lambda stream: self._held[stream].at_ns):
            held = self._held.pop(stream)
            self._in_parts.add(stream)
            lines.at.append(held.at_ns)
            lines.marks.append(PARTIAL | (STDERR if stream == b"err" else 0))
            lines.texts.append(b"".join(held.pieces))
        return lines


def _seconds_ns(text: bytes) -> int:
    """Epoch nanoseconds of `2026-01-02T03:04:05+00:00`; -1 if it is not a time."""
    try:
        return int(datetime.fromisoformat(text.decode()).timestamp()) * 1_000_000_000
    except ValueError:
        return -1
