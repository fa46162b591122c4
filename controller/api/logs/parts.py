"""What a reader of logs requests, and the parts of the answer. PURE."""

from collections.abc import Iterator, Sequence
from itertools import accumulate

import msgspec

from controller.api.logs.sources import LogSource
from controller.leader.exchanges import LogsOptions
from pyswarm_core import views
from pyswarm_core.docker.logdrivers import UNREADABLE
from pyswarm_core.errors import PyswarmError
from pyswarm_core.logs.limits import LOG_FRAME_BYTES
from pyswarm_core.logs.lines import LogLines, LogPlace
from pyswarm_core.views import LogsQuery

UNSTORED = f"logs of some tasks are missing: {UNREADABLE}"


class LogPart(msgspec.Struct, frozen=True):
    """Lines, or a warning that some are missing."""

    sources: tuple[views.LogSource, ...] = ()
    source_of: Sequence[int] = ()
    lines: LogLines | None = None
    """As the agent sent them, if they are of one task: logs are a hot path."""
    warning: str = ""
    of_service: bool = False


def options(sources: Sequence[LogSource], query: LogsQuery) -> LogsOptions:
    """The request to the node of these sources."""
    return LogsOptions(
        task_ids=tuple(source.task_id for source in sources),
        follow=query.follow,
        tail=query.tail,
        since=query.since,
        until=query.until,
        grep=query.grep,
    )


def warning(source: LogSource, error: PyswarmError) -> str:
    """The line about a node whose logs are missing."""
    return f"logs of node {source.node_name} are missing: {error}"


def cut(lines: LogLines, start: int, end: int) -> LogLines:
    """The lines from `start` to before `end`."""
    if start == 0 and end == len(lines.at):
        return lines
    return LogLines(
        lines.task_id, lines.at[start:end], lines.marks[start:end], lines.texts[start:end]
    )


def merged(runs: Sequence[tuple[views.LogSource, LogLines]]) -> Iterator[LogPart]:
    """The lines of several tasks ordered by their times; those of one task stay in order."""
    if len(runs) == 1:
        source, lines = runs[0]
        yield LogPart((source,), lines=lines)
        return
    at: list[int] = []
    times: list[int] = []
    texts: list[bytes] = []
    marks = bytearray()
    source_of: list[int] = []
    for number, (_, lines) in enumerate(runs):
        at += lines.at
        # A clock that was set back does not reorder the lines of a task.
        times += accumulate(lines.at, max)
        texts += lines.texts
        marks += lines.marks
        source_of += [number] * len(lines.at)
    order = sorted(range(len(at)), key=times.__getitem__)
    sources = tuple(source for source, _ in runs)
    for chosen in _parts(order, texts):
        columns = LogLines(
            at=tuple(at[n] for n in chosen),
            marks=bytes(marks[n] for n in chosen),
            texts=tuple(texts[n] for n in chosen),
        )
        yield LogPart(sources, tuple(source_of[n] for n in chosen), columns)


def _parts(order: Sequence[int], texts: Sequence[bytes]) -> Iterator[Sequence[int]]:
    """The lines in parts of one message each."""
    start = size = 0
    for end, number in enumerate(order):
        size += len(texts[number])
        if size > LOG_FRAME_BYTES and end > start:
            yield order[start:end]
            start, size = end, len(texts[number])
    if order:
        yield order[start:]


def behind(place: LogPlace, lines: LogLines) -> LogPlace:
    """The place after these lines, which follow `place`."""
    if lines.position:
        return LogPlace(lines.position)
    return LogPlace(place.position, place.lines + len(lines.at))
