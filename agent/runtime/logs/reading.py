"""Reading container logs: the last lines, a range of time, what matches, what is yet to be written.
SHELL over log files.

A line without an end is yielded at the end of the log; with `follow`, once no piece of it came for
PAUSE_S, and at the latest after PAUSES_MAX times PAUSE_S.
Invariants: memory is bounded by one block, one unfinished line per stream and the yielded batch,
whatever the size of the log and its lines. No line is lost when files are rotated meanwhile, unless
a file is deleted before it was read.
"""

import asyncio
import os
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

from asyncinotify import Mask

from agent.runtime.logs import files
from agent.runtime.logs.beginning import Beginning, beginning, length_of_block
from agent.runtime.logs.lines import LineJoiner, Lines
from agent.runtime.logs.position import Position, encoded, position_in
from agent.runtime.logs.selection import LogQuery, Selection
from agent.runtime.watch import FileWatch

PAUSE_S = 0.2
"""conmon writes the pieces of a long line in quick succession; after such a pause the line is a
prompt.
"""
_WAIT_S = 1.0
# Lines come in bursts: reading 20 times a second looks immediate and is cheap at any rate.
_GATHER_S = 0.05
_LATE_NS = 100_000_000
"""How much later than its time a line may be in the file."""
_MATCHING, _COUNTING = ThreadPoolExecutor(1, "grep"), ThreadPoolExecutor(1, "count")
"""Lines are matched beside the event loop, and never by more than one thread for those that are
read and one for those that are counted.
"""


async def read_log(
    log: Path, query: LogQuery, ended: asyncio.Event | None = None
) -> AsyncGenerator[Lines, None]:
    """Batches of lines, in the order they were written; the first one has only a position.

    Without `follow` it ends with what was written before the call. With `follow` it continues until
    `ended` is set and everything was read, or until `until_ns`; without both, for ever. A log that
    does not exist (yet) has no lines.
    """
    begin = await _begun(log, query)
    joiner = LineJoiner(query.since_ns, begin.in_parts)
    reader = _Reader(log, query, joiner, ended=ended, begin=begin)
    selection = Selection(query, begin.skip)
    with closing(reader):
        yield Lines(position=reader.position(begin.skip))
        async with aclosing(reader.blocks()) as blocks:
            async for block in blocks:
                found = joiner.feed(block) if block else joiner.pause()
                if chosen := await _chosen(selection, found):
                    yield reader.placed(chosen)
                if selection.is_over:
                    break
        if chosen := await _chosen(selection, joiner.flush()):
            yield reader.placed(chosen)


async def _begun(log: Path, query: LogQuery) -> Beginning:
    abandoned = threading.Event()
    executor = None if query.tail <= 0 or query.counts_all else _COUNTING
    try:
        return await _beside(executor, beginning, log, query, abandoned)
    except asyncio.CancelledError:
        abandoned.set()
        raise


async def _opened_after(log: Path, inode: int) -> int | None:
    begin = await _beside(None, lambda: Beginning(files.opened_after(log, inode)))
    return begin.descriptor


async def _beside(
    executor: ThreadPoolExecutor | None, opening: Callable[..., Beginning], *given: Any
) -> Beginning:
    """Open files in a thread; if the reader is cancelled meanwhile, they are closed."""
    work = asyncio.get_running_loop().run_in_executor(executor, opening, *given)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        work.add_done_callback(_close)
        raise


async def _chosen(selection: Selection, lines: Lines) -> Lines:
    if not lines or not selection.matches:
        return selection.of(lines)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_MATCHING, selection.of, lines)


class _Reader:
    """The bytes of one log for one query."""

    def __init__(
        self,
        log: Path,
        query: LogQuery,
        joiner: LineJoiner,
        *,
        ended: asyncio.Event | None,
        begin: Beginning,
    ) -> None:
        self._log = log
        self._query = query
        self._joiner = joiner
        self._ended = ended
        self._descriptor = begin.descriptor
        self._end = None if query.follow else begin.end

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def position(self, skip: int = 0) -> bytes:
        """After the last record that was read."""
        if self._descriptor is None:
            return encoded(Position(skip=skip))
        joiner = self._joiner
        return encoded(position_in(self._descriptor, joiner.rest_size, joiner.in_parts, skip))

    def placed(self, lines: Lines) -> Lines:
        """The lines with the position after them, if no line is held."""
        if not self._joiner.holds:
            lines.position = self.position()
        return lines

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """The log's next bytes; an empty block per PAUSE_S while the joiner holds a line."""
        read = 0
        while self._descriptor is None:
            if self._is_past_end():
                return
            await asyncio.sleep(_GATHER_S)
            if files.has_newer(self._log, 0):
                self._descriptor = await _opened_after(self._log, 0)
        while True:
            async with aclosing(self._blocks_of_file(self._descriptor)) as blocks:
                async for block in blocks:
                    yield block
            read += 1
            inode = files.inode_of(self._descriptor)
            if self._end and (read >= self._end.files or inode == self._end.inode):
                return
            # Closed only after that: while it is open, no other file gets its inode.
            newer = await _opened_after(self._log, inode)
            if newer is None:
                return
            os.close(self._descriptor)
            self._descriptor = newer
            self._joiner.drop_rest()

    async def _blocks_of_file(self, descriptor: int) -> AsyncGenerator[bytes, None]:
        """The blocks of one file, until a newer file exists or nothing more is to be read."""
        inode = files.inode_of(descriptor)
        if self._end is not None:
            size = self._end.size if inode == self._end.inode else None
            async for block in _blocks_up_to(descriptor, size):
                yield block
            return
        loop = asyncio.get_running_loop()
        paused_at = loop.time()
        with FileWatch(Path(f"/proc/self/fd/{descriptor}"), Mask.MODIFY) as watch:
            while True:
                # Checked before reading: everything written before the rotation is read here.
                over = self._is_past_end() or files.has_newer(self._log, inode)
                async for block in _blocks_up_to(descriptor, None):
                    yield block
                if over:
                    return
                await _wait_for_more(descriptor, watch, self._patience_s())
                if _is_truncated(descriptor):
                    os.lseek(descriptor, 0, os.SEEK_SET)
                    self._joiner.drop_rest()
                if self._joiner.holds and loop.time() >= paused_at + PAUSE_S:
                    paused_at = loop.time()
                    yield b""

    def _is_past_end(self) -> bool:
        """Whether nothing more will be written that is to be read."""
        if not self._query.follow or (self._ended and self._ended.is_set()):
            return True
        return bool(self._query.until_ns) and self._left_ns() <= 0

    def _left_ns(self) -> int:
        return self._query.until_ns + _LATE_NS - time.time_ns()

    def _patience_s(self) -> float:
        patience_s = PAUSE_S if self._joiner.holds else _WAIT_S
        if self._query.until_ns:
            patience_s = min(patience_s, max(self._left_ns() / 1e9, _GATHER_S))
        return patience_s


def _close(work: "asyncio.Future[Beginning]") -> None:
    """Close the file that a reader that was cancelled meanwhile would have got."""
    if work.cancelled() or work.exception():
        return
    descriptor = work.result().descriptor
    if descriptor is not None:
        os.close(descriptor)


async def _blocks_up_to(descriptor: int, size: int | None) -> AsyncIterator[bytes]:
    """The blocks from the position on, to this offset or to the end."""
    while True:
        length = length_of_block(os.lseek(descriptor, 0, os.SEEK_CUR), size)
        block = await asyncio.to_thread(os.read, descriptor, length) if length else b""
        if not block:
            return
        yield block


def _is_truncated(descriptor: int) -> bool:
    return os.fstat(descriptor).st_size < os.lseek(descriptor, 0, os.SEEK_CUR)


async def _wait_for_more(descriptor: int, watch: FileWatch, timeout_s: float) -> None:
    """Return once the file's size is another, at the latest after `timeout_s`."""
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout_s
    while (left_s := until - loop.time()) > 0:
        await watch.changed(left_s)
        await asyncio.sleep(_GATHER_S)
        if os.fstat(descriptor).st_size != os.lseek(descriptor, 0, os.SEEK_CUR):
            return
