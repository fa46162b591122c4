"""Log lines as `service logs` prints them: `web.1.r7kt…@host1    | text`. PURE.

As in Docker, the output of processes is printed unchanged, escape codes included. A line without
its newline gets none: it is continued by the next line of its stream. If another line comes first
and lines have something in front, or it is of another task, the line is ended.
"""

from collections.abc import Callable, Iterator

import msgspec

from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.docker.units import format_time
from pyswarm_core.ids import short
from pyswarm_core.logs.lines import PARTIAL, STDERR
from pyswarm_core.views import Logs, LogSource

COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
"""Docker Compose's, in its order; a terminal's codes for text."""

Written = tuple[int, bytes]
"""A stream (0: stdout, 1: stderr), and what is written to it."""


class Form(msgspec.Struct, frozen=True):
    """What is in front of each line."""

    timestamps: bool = False
    details: bool = False
    prefix: bool = True
    task_ids: bool = True
    resolve: bool = True
    truncate: bool = True
    time_first: bool = True
    """The time is before the prefix, as in Docker; otherwise behind it, as in Compose."""


Naming = Callable[[LogSource], tuple[str, str]]
"""The prefix of a task's lines, and the name that its colour is of."""


class Renderer:
    """Renders the parts of one stream of logs, in turn."""

    def __init__(
        self,
        form: Form,
        colours: tuple[bool, bool] = (False, False),
        naming: Naming | None = None,
    ) -> None:
        """`naming`: in place of Docker's prefixes, unless the form has none."""
        self._form = form
        self._naming = naming or (lambda source: (_prefix(source, form), _name(source)))
        self._colours = colours
        self._is_plain = not (form.timestamps or form.details or form.prefix)
        self._colour_of: dict[str, int] = {}
        self._second, self._date = -1, b""
        self._begun: tuple[str, int] | None = None
        """The task and stream of a line that has no newline yet."""

    def rendered(self, part: Logs) -> Iterator[Written]:
        """What to write, in the order of the lines."""
        lines = part.lines
        if not lines.at or not part.sources:
            return
        fronts = [self._fronts(source) for source in part.sources]
        marks = lines.marks
        alike = marks.count(marks[0]) == len(marks) and not marks[0] & PARTIAL
        if self._is_plain and alike and not self._begun and len(part.sources) == 1:
            yield marks[0] & STDERR, b"\n".join(lines.texts) + b"\n"
            return
        written: list[bytes] = []
        stream = marks[0] & STDERR
        for number, text in enumerate(lines.texts):
            of = part.source_of[number] if part.source_of else 0
            line = (part.sources[of].task_id, marks[number] & STDERR)
            if self._begun and self._begun != line and self._ends_before(line):
                yield from ((stream, b"".join(written)), (self._begun[1], b"\n"))
                written, self._begun = [], None
            if line[1] != stream:
                yield stream, b"".join(written)
                written, stream = [], line[1]
            if self._begun != line:
                written.append(self._front(lines.at[number], fronts[of][stream]))
            written.append(text)
            self._begun = line if marks[number] & PARTIAL else None
            if not self._begun:
                written.append(b"\n")
        yield stream, b"".join(written)

    def _ends_before(self, line: tuple[str, int]) -> bool:
        return not self._is_plain or bool(self._begun and self._begun[0] != line[0])

    def _front(self, at: int, front: bytes) -> bytes:
        if not self._form.timestamps:
            return front
        second, fraction = divmod(at, SECOND)
        if second != self._second:
            # Formatting a date costs more than all else, and lines share seconds.
            self._second = second
            self._date = format_time(Instant(second * SECOND)).removesuffix("000000000Z").encode()
        if self._form.time_first:
            return b"%b%09dZ %b" % (self._date, fraction, front)
        return b"%b%b%09dZ " % (front, self._date, fraction)

    def _fronts(self, source: LogSource) -> tuple[bytes, bytes]:
        """What is in front of a task's lines after the time, on stdout and stderr."""
        # A replica keeps its colour when its task is replaced.
        prefix, name = self._naming(source) if self._form.prefix else ("", "")
        details = f"{source.details} " if self._form.details and source.details else ""
        if not prefix:
            return details.encode(), details.encode()
        number = self._colour_of.setdefault(name, len(self._colour_of))
        code = COLOURS[number % len(COLOURS)]
        plain, coloured = f"{prefix}{details}", f"\x1b[{code}m{prefix}\x1b[0m{details}"
        out, err = (coloured if has else plain for has in self._colours)
        return out.encode(), err.encode()


def _name(source: LogSource) -> str:
    # The full name of a task ends with its id.
    return source.task_name.removesuffix(f".{source.task_id}")


def _prefix(source: LogSource, form: Form) -> str:
    task = short(source.task_id) if form.truncate else source.task_id
    name = _name(source) if form.resolve else task
    if form.task_ids and form.resolve:
        name = f"{name}.{task}"
    node = f"@{source.node_name}" if source.node_name else ""
    return f"{name}{node}    | "
