"""Records of conmon's log -> messages: pieces of a line are joined, long lines cut. PURE."""

from typing import NamedTuple

MESSAGE_BYTES_MAX = 16 * 1024
"""Docker's: a longer line becomes several messages."""
_RECORD_BYTES_MAX = 64 * 1024
"""conmon's are shorter; more bytes without a line end are no record."""


class Message(NamedTuple):
    """One line of a container, or a part of a long one."""

    time: bytes
    """RFC 3339 with nanoseconds and the host's time zone, as conmon writes it."""
    stream: bytes
    """`stdout` or `stderr`."""
    text: bytes
    partial: bool
    """The line goes on in the next message of its stream."""
    end: int
    """The offset in the file behind its last record."""
    held: int
    """The offset from which on records belong to unfinished lines; `end` if there are none."""


class Splitter:
    """Splits the bytes of one file of a log. It begins at offset `held`, and yields only what ends
    behind `sent`: lines that were unfinished when `sent` was noted are joined again.
    """

    def __init__(self, held: int = 0, sent: int = 0) -> None:
        self._offset = held
        self._sent = sent
        self._rest = b""
        self._pieces: dict[bytes, list[bytes]] = {}
        self._since: dict[bytes, int] = {}
        self._times: dict[bytes, bytes] = {}

    def feed(self, block: bytes) -> list[Message]:
        """The messages that `block` completes. What is no record is skipped."""
        *records, self._rest = (self._rest + block).split(b"\n")
        found = []
        for record in records:
            start, self._offset = self._offset, self._offset + len(record) + 1
            message = self._message(record, start)
            if message is not None and message.end > self._sent:
                found.append(message)
        if len(self._rest) > _RECORD_BYTES_MAX:
            self._offset += len(self._rest)
            self._rest = b""
        return found

    def next_file(self) -> None:
        """The next bytes are those of the next file; unfinished lines go on there."""
        self._offset = self._sent = 0
        self._rest = b""
        self._since = dict.fromkeys(self._since, 0)

    def flush(self) -> list[Message]:
        """The unfinished lines, as messages: the container has ended."""
        streams = list(self._pieces)
        return [self._taken(stream, self._times[stream], partial=False) for stream in streams]

    def _message(self, record: bytes, start: int) -> Message | None:
        fields = record.split(b" ", 3)
        if len(fields) < 4:
            return None
        time, stream, flag, text = fields
        pieces = self._pieces.get(stream)
        if flag != b"P" and pieces is None:
            held = min(self._since.values(), default=self._offset)
            return Message(time, stream, text, False, self._offset, held)
        if pieces is None:
            pieces = self._pieces[stream] = []
            self._since[stream] = start
        pieces.append(text)
        self._times[stream] = time
        if flag != b"P":
            return self._taken(stream, time, partial=False)
        if sum(map(len, pieces)) >= MESSAGE_BYTES_MAX:
            return self._taken(stream, time, partial=True)
        return None

    def _taken(self, stream: bytes, time: bytes, *, partial: bool) -> Message:
        """The pieces of a stream's line, which are no longer held."""
        text = b"".join(self._pieces.pop(stream))
        del self._since[stream]
        held = min(self._since.values(), default=self._offset)
        return Message(time, stream, text, partial, self._offset, held)
