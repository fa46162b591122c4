"""The logs of several services as one. SHELL.

There is one stream per service. What was written before is merged by time; while following, parts
come in the order of their arrival.
"""

import heapq
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pyswarm_core.errors import Conflict, NotFound, PyswarmError
from pyswarm_core.logs.lines import LogLines
from pyswarm_core.views import Logs, LogSource, LogsQuery

if TYPE_CHECKING:
    from cli.client import Client

_QUEUE = 1_000
_BATCH = 500
"""Lines of a part."""

Warn = Callable[[str], None]


class _Line(NamedTuple):
    at: int
    source: LogSource
    mark: int
    text: bytes


def parts(client: "Client", queries: Sequence[LogsQuery], warn: Warn) -> Iterator[Logs]:
    """The parts of all queries. A service that is gone, or stores no lines, costs a warning.

    Raises PyswarmError.
    """
    if len(queries) == 1:
        yield from client.logs(queries[0])
    elif queries and queries[0].follow:
        yield from _as_they_come(client, queries)
    else:
        yield from _by_time(client, queries, warn)


def _by_time(client: "Client", queries: Sequence[LogsQuery], warn: Warn) -> Iterator[Logs]:
    streams = [_lines(_read(client, query, warn), warn) for query in queries]
    waiting: list[_Line] = []
    for line in heapq.merge(*streams, key=lambda line: line.at):
        waiting.append(line)
        if len(waiting) == _BATCH:
            yield part_of(waiting)
            waiting = []
    if waiting:
        yield part_of(waiting)


def part_of(lines: Iterable[_Line]) -> Logs:
    """The lines as one part."""
    sources: dict[LogSource, int] = {}
    found = list(lines)
    source_of = tuple(sources.setdefault(line.source, len(sources)) for line in found)
    columns = LogLines(
        at=tuple(line.at for line in found),
        marks=bytes(line.mark for line in found),
        texts=tuple(line.text for line in found),
    )
    return Logs(sources=tuple(sources), source_of=source_of, lines=columns)


def _lines(read: Iterator[Logs], warn: Warn) -> Iterator[_Line]:
    for part in read:
        if part.warning:
            warn(part.warning)
        lines = part.lines
        for number, at in enumerate(lines.at):
            source = part.sources[part.source_of[number] if part.source_of else 0]
            yield _Line(at, source, lines.marks[number], lines.texts[number])


def _read(client: "Client", query: LogsQuery, warn: Warn) -> Iterator[Logs]:
    try:
        yield from client.logs(query)
    except (Conflict, NotFound) as error:
        warn(f"{query.ref}: {error}")


_Item = Logs | Exception | None


def _as_they_come(client: "Client", queries: Sequence[LogsQuery]) -> Iterator[Logs]:
    items: queue.Queue[_Item] = queue.Queue(_QUEUE)
    for query in queries:
        told = partial(_tell, items)
        work = partial(_feed, client, query, told, items)
        threading.Thread(target=work, daemon=True).start()
    open_ = len(queries)
    while open_:
        item = items.get()
        if isinstance(item, Exception):
            raise item
        if item is None:
            open_ -= 1
        else:
            yield item


def _feed(client: "Client", query: LogsQuery, warn: Warn, items: "queue.Queue[_Item]") -> None:
    try:
        for part in _read(client, query, warn):
            items.put(part)
        items.put(None)
    except PyswarmError as error:  # the thread that prints raises it
        items.put(error)


def _tell(items: "queue.Queue[_Item]", warning: str) -> None:
    items.put(Logs(warning=warning))
