"""Lines of logs on the wire, in columns. PURE."""

import msgspec

STDERR = 1
"""The mark of a line that was written to standard error."""
PARTIAL = 2
"""The mark of a line without its newline: the next line of its stream continues it."""


class LogLines(msgspec.Struct, frozen=True):
    """Lines in columns: when each ended (nanoseconds since 1970), its marks, its text without its
    newline. Has the fields of the message.
    """

    task_id: str = ""
    at: tuple[int, ...] = ()
    marks: bytes = b""
    texts: tuple[bytes, ...] = ()
    position: bytes = b""
    """Where reading can be resumed after them; empty: the last position counts."""


class LogPlace(msgspec.Struct, frozen=True):
    """A place in a task's log: after `lines` lines from a position that its agent sent."""

    position: bytes = b""
    """Empty: the beginning."""
    lines: int = 0
