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
from agent.runtime.logs.position import decoded, found_at
from agent.runtime.logs.selection import LogQuery, Selection
from pyswarm_core.logs.limits import LOG_LINE_BYTES
from pyswarm_core.logs.lines import LogPlace

BLOCK_BYTES = 64 * 1024


class End(NamedTuple):
    """The end of a log as it was: readers that do not follow stop there."""

    files: int = 0
    inode: int = -1
    size: int = 0
    """Of the newest file, which has this inode."""


class Beginning(NamedTuple):
    """An open file at its position, how many of the chosen lines from there are left out, the
    streams that are in the middle of a line, and where the log ended at that time.
    """

    descriptor: int | None
    skip: int = 0
    in_parts: Sequence[str] = ()
    end: End = End()


def beginning(log: Path, query: LogQuery, abandoned: Event) -> Beginning:
    """Before the first line of the query. Blocks: it may read the whole log, until `abandoned`."""
    with files.all_opened(log) as opened:
        end = _end_of(opened)
        if query.place is not None:
            found = _resumed(opened, query.place)
        elif not opened:
            found = Beginning(None)
        elif query.tail < 0:
            found = Beginning(_first_since(opened, query.since_ns))
        elif query.tail == 0 or query.counts_all:
            found = Beginning(_seek_last(opened, end, query.tail))
        else:
            number, skip = _last_chosen(opened, end, query, abandoned)
            os.lseek(opened[number], 0, os.SEEK_SET)
            found = Beginning(opened[number], skip)
        kept = None if found.descriptor is None else os.dup(found.descriptor)
        return found._replace(descriptor=kept, end=end)


def _end_of(opened: Sequence[int]) -> End:
    if not opened:
        return End()
    newest = os.fstat(opened[-1])
    return End(len(opened), newest.st_ino, newest.st_size)


def _resumed(opened: Sequence[int], place: LogPlace) -> Beginning:
    """At the place. If its file is gone, all files are newer, and reading begins with the oldest;
    lines between were deleted before they were read.
    """
    position = decoded(place.position)
    skip = position.skip + place.lines
    if (descriptor := found_at(opened, position)) is not None:
        return Beginning(descriptor, skip, position.in_parts)
    return Beginning(opened[0] if opened else None, 0 if position.inode else skip)


def _first_since(opened: Sequence[int], since_ns: int) -> int:
    """The oldest file that was written to at or after `since_ns`; else the newest."""
    written = (one for one in opened if os.fstat(one).st_mtime_ns >= since_ns)
    return next(written, opened[-1])


def _last_chosen(
    opened: Sequence[int], end: End, query: LogQuery, abandoned: Event
) -> tuple[int, int]:
    """The number of the file in which the last `tail` of the chosen lines begin, and how many of
    the chosen ones in and after it come before them.
    """
    joiner, selection = LineJoiner(query.since_ns), Selection(query)
    counts: list[int] = []
    begun: list[bool] = []
    for descriptor in opened:
        begun.append(joiner.holds)
        size = end.size if descriptor == opened[-1] else None
        blocks = takewhile(lambda _: not abandoned.is_set(), _blocks(descriptor, size))
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


def _blocks(descriptor: int, size: int | None) -> Iterator[bytes]:
    """The blocks of a file, up to this size if there is one."""
    offset = 0
    while block := os.pread(descriptor, length_of_block(offset, size), offset):
        offset += len(block)
        yield block


def length_of_block(offset: int, size: int | None) -> int:
    """How many bytes to read at this offset of a file that is read up to `size`; None: no bound."""
    return BLOCK_BYTES if size is None else max(min(BLOCK_BYTES, size - offset), 0)


def _seek_last(opened: Sequence[int], end: End, tail: int) -> int:
    """The file, of these from the oldest to the newest, in which the last `tail` lines before the
    end begin; it is positioned there.
    """
    streams: set[bytes] = set()
    for descriptor in reversed(opened):
        size = end.size if descriptor == opened[-1] else os.fstat(descriptor).st_size
        offset, counted = _offset_of_last(descriptor, size, tail, streams)
        os.lseek(descriptor, offset, os.SEEK_SET)
        if counted >= tail:
            return descriptor
        tail -= counted
    os.lseek(opened[0], 0, os.SEEK_SET)
    return opened[0]


def _offset_of_last(descriptor: int, size: int, tail: int, streams: set[bytes]) -> tuple[int, int]:
    """The offset of the last `tail` lines of a file of this size, and the number of lines found.

    `streams` are those seen in newer files; this file's are added. The newest record of each stream
    ends a line, or is a piece of an unfinished one.
    """
    counted = 0
    with os.fdopen(descriptor, "rb", closefd=False) as opened:
        position = size
        if tail == 0:
            return size, 0
        later = b""
        while position > 0:
            length = min(BLOCK_BYTES, position)
            position -= length
            opened.seek(position)
            block = opened.read(length) + later
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
