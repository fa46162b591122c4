"""Where reading a log begins. SHELL over its files.

The last lines of a log are found from its end. If not every line counts, as with a pattern, the
files are read twice: first to count the lines that do.
"""

import os
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from threading import Event
from typing import NamedTuple

from agent.runtime.logs import files
from agent.runtime.logs.lines import LineJoiner
from agent.runtime.logs.position import decoded, opened_at
from agent.runtime.logs.selection import LogQuery, Selection
from pyswarm_core.logs.limits import LOG_LINE_BYTES
from pyswarm_core.logs.lines import LogPlace

BLOCK_BYTES = 64 * 1024


class Beginning(NamedTuple):
    """An open file at its position, how many of the chosen lines from there are left out, and the
    streams that are in the middle of a line.
    """

    descriptor: int | None
    skip: int = 0
    in_parts: Sequence[str] = ()


def beginning(log: Path, query: LogQuery, abandoned: Event) -> Beginning:
    """Before the first line of the query. Blocks: it may read the whole log, until `abandoned`."""
    if query.place is not None:
        return _resumed(log, query.place)
    if query.tail < 0:
        return Beginning(_first_since(log, query.since_ns))
    with files.all_opened(log) as opened:
        if not opened:
            return Beginning(None)
        if query.tail == 0 or query.counts_all:
            return Beginning(os.dup(_seek_last(opened, query.tail)))
        number, skip = _last_chosen(opened, query, abandoned)
        os.lseek(opened[number], 0, os.SEEK_SET)
        return Beginning(os.dup(opened[number]), skip)


def _resumed(log: Path, place: LogPlace) -> Beginning:
    """At the place. If its file is gone, all files are newer, and reading begins with the oldest;
    lines between were deleted before they were read.
    """
    position = decoded(place.position)
    skip = position.skip + place.lines
    if (descriptor := opened_at(log, position)) is not None:
        return Beginning(descriptor, skip, position.in_parts)
    return Beginning(files.opened_after(log, 0), 0 if position.inode else skip)


def _first_since(log: Path, since_ns: int) -> int | None:
    """The oldest file that was written to at or after `since_ns`, opened."""
    found = files.opened_after(log, 0)
    while found is not None and os.fstat(found).st_mtime_ns < since_ns:
        newer = files.opened_after(log, files.inode_of(found))
        if newer is None:
            break
        os.close(found)
        found = newer
    return found


def _last_chosen(opened: Sequence[int], query: LogQuery, abandoned: Event) -> tuple[int, int]:
    """The number of the file in which the last `tail` of the chosen lines begin, and how many of
    the chosen ones in and after it come before them.
    """
    joiner, selection = LineJoiner(query.since_ns), Selection(query)
    counts: list[int] = []
    begun: list[bool] = []
    for descriptor in opened:
        begun.append(joiner.holds)
        os.lseek(descriptor, 0, os.SEEK_SET)
        blocks = takewhile(lambda _: not abandoned.is_set(), _blocks(descriptor))
        counts.append(sum(len(selection.of(joiner.feed(block))) for block in blocks))
    counts[-1] += len(selection.of(joiner.flush()))
    skip = max(sum(counts) - query.tail, 0)
    number = 0
    while number < len(opened) - 1 and skip >= counts[number]:
        skip -= counts[number]
        number += 1
    while begun[number]:  # its first line began in the file before
        number -= 1
        skip += counts[number]
    return number, skip


def _blocks(descriptor: int) -> Iterator[bytes]:
    while block := os.read(descriptor, BLOCK_BYTES):
        yield block


def _seek_last(opened: Sequence[int], tail: int) -> int:
    """The file, of these from the oldest to the newest, in which the last `tail` lines begin;
    it is positioned there.
    """
    streams: set[bytes] = set()
    for descriptor in reversed(opened):
        offset, counted = _offset_of_last(descriptor, tail, streams)
        os.lseek(descriptor, offset, os.SEEK_SET)
        if counted >= tail:
            return descriptor
        tail -= counted
    os.lseek(opened[0], 0, os.SEEK_SET)
    return opened[0]


def _offset_of_last(descriptor: int, tail: int, streams: set[bytes]) -> tuple[int, int]:
    """The offset of the last `tail` lines of a file, and the number of lines found.

    `streams` are those seen in newer files; this file's are added. The newest record of each stream
    ends a line, or is a piece of an unfinished one.
    """
    counted = 0
    with os.fdopen(descriptor, "rb", closefd=False) as opened:
        position = end = opened.seek(0, os.SEEK_END)
        if tail == 0:
            return end, 0
        later = b""
        while position > 0:
            size = min(BLOCK_BYTES, position)
            position -= size
            opened.seek(position)
            block = opened.read(size) + later
            # The first record of a block may begin in the previous block: it is counted there.
            head, newline, rest = block.partition(b"\n") if position else (b"", b"", block)
            begin = position + len(head) + len(newline)
            records = rest.split(b"\n")
            for index in range(len(records) - 1, -1, -1):
                _, stream, flag, *_ = (*records[index].split(b" ", 3), b"", b"", b"")
                if flag == b"F" or (flag == b"P" and stream not in streams):
                    if counted >= tail:
                        skipped = sum(len(r) + 1 for r in records[: index + 1])
                        return begin + skipped, counted
                    counted += 1
                streams.add(stream)
            later = head + newline if position else b""
            if len(later) > 2 * LOG_LINE_BYTES:
                later = b""
    return 0, counted
