"""Reading container logs: `tail`, `since` and `follow`. SHELL over log files.

The format is conmon's k8s-file, one record per line: `TIME STREAM P|F TEXT`; P marks a piece of a
line that continues. A line without an end is yielded at the end of the log; with `follow`, once no
piece of it came for PAUSE_S, and at the latest after PAUSES_MAX times PAUSE_S.
Invariants: memory is bounded by one block, one unfinished line per stream and the yielded batch,
whatever the size of the log and its lines. No line is lost when files are rotated meanwhile: files
are identified by inode, because rotation changes their names.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from functools import partial
from pathlib import Path

import msgspec
from asyncinotify import Mask

from agent.runtime import logrotate
from agent.runtime.watch import FileWatch

BLOCK_BYTES = 64 * 1024
LINE_BYTES_MAX = 1024 * 1024
PAUSE_S = 0.2
"""conmon writes the pieces of a long line in quick succession; after such a pause the line is a
prompt.
"""
PAUSES_MAX = 5
"""A line that grows for longer shows progress, as a row of dots does."""
_WAIT_S = 1.0
# Lines come in bursts: reading 20 times a second looks immediate and is cheap at any rate.
_GATHER_S = 0.05


class LogEntry(msgspec.Struct, frozen=True, gc=False):
    """One line of a container, without its line end; `at_ns` is the wall time of its end."""

    at_ns: int
    stream: str
    text: bytes


class LogQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Lines to read: the last `tail` (-1: all) since `since_ns`, and new ones with `follow`."""

    tail: int = -1
    since_ns: int = 0
    follow: bool = False


class LineJoiner:
    """Splits the bytes of a log into lines, joining the pieces of each stream. PURE."""

    def __init__(self) -> None:
        self._rest = b""
        self._pieces: dict[bytes, list[bytes]] = {}
        self._held: dict[bytes, int] = {}
        self._paused: dict[bytes, tuple[int, int]] = {}
        self._piece_at: dict[bytes, bytes] = {}
        self._yielded: set[bytes] = set()
        self._second = b""
        self._second_ns = 0

    def feed(self, block: bytes) -> list[LogEntry]:
        """The lines that `block` completes. Malformed records are skipped."""
        *records, self._rest = (self._rest + block).split(b"\n")
        if len(self._rest) > LINE_BYTES_MAX:
            self._rest = b""
        return [line for record in records if (line := self._line(record)) is not None]

    @property
    def holds(self) -> bool:
        """Whether a line is unfinished."""
        return bool(self._held)

    def pause(self) -> list[LogEntry]:
        """Called once per PAUSE_S: the unfinished lines that have not grown since the last call,
        and those held for PAUSES_MAX calls.
        """
        due = []
        for stream, held in self._held.items():
            before, times = self._paused.get(stream, (-1, 0))
            self._paused[stream] = held, times + 1
            if held == before or times + 1 >= PAUSES_MAX:
                due.append(stream)
        return self._flush(due)

    def flush(self) -> list[LogEntry]:
        """The unfinished lines, as lines; later pieces of them become lines of their own."""
        return self._flush(list(self._held))

    def _flush(self, streams: Sequence[bytes]) -> list[LogEntry]:
        lines = []
        for stream in streams:
            at_ns = self._time_ns(self._piece_at[stream])
            text = self._taken(stream)
            self._yielded.add(stream)
            if at_ns >= 0:
                lines.append(LogEntry(at_ns, stream.decode(), text))
        return sorted(lines, key=lambda line: line.at_ns)

    def _taken(self, stream: bytes) -> bytes:
        """Remove and return the pieces held of a stream's line."""
        self._held.pop(stream, None)
        self._paused.pop(stream, None)
        return b"".join(self._pieces.pop(stream, ()))

    def _line(self, record: bytes) -> LogEntry | None:
        fields = record.split(b" ", 3)
        if len(fields) < 4:
            return None
        time, stream, flag, text = fields
        pieces = self._pieces.get(stream)
        if flag == b"P":
            self._piece_at[stream] = time
            held = self._held[stream] = self._held.get(stream, 0) + len(text)
            if pieces is None:
                self._pieces[stream] = [text]
            else:
                pieces.append(text)
            if held < LINE_BYTES_MAX:
                return None
            text = b""
        if self._held.get(stream):
            text = self._taken(stream) + text
        elif stream in self._yielded and not text:
            self._yielded.discard(stream)
            return None  # the end of a line that was yielded without it
        if flag == b"P":
            self._yielded.add(stream)
        else:
            self._yielded.discard(stream)
        at_ns = self._time_ns(time)
        return None if at_ns < 0 else LogEntry(at_ns, stream.decode(), text)

    def _time_ns(self, time: bytes) -> int:
        """Epoch nanoseconds of `2026-01-02T03:04:05.678901234+00:00`; -1 if it is not a time."""
        second, zone = time[:19], time[29:]
        if second + zone != self._second:
            try:
                parsed = datetime.fromisoformat((second + zone).decode())
            except ValueError:
                return -1
            self._second = second + zone
            self._second_ns = int(parsed.timestamp()) * 1_000_000_000
        fraction = time[20:29]
        return self._second_ns + int(fraction) if fraction.isdigit() else -1


async def read_log(
    log: Path, query: LogQuery, ended: asyncio.Event | None = None
) -> AsyncGenerator[list[LogEntry], None]:
    """Non-empty batches of lines, in the order they were written.

    With `follow` it continues until `ended` is set and everything was read; without `ended`, for
    ever. A log that does not exist (yet) has no lines.
    """
    joiner = LineJoiner()
    async for block in _blocks(log, query, ended, joiner):
        if lines := _since(joiner.feed(block) if block else joiner.pause(), query):
            yield lines
    if lines := _since(joiner.flush(), query):
        yield lines


def _since(lines: list[LogEntry], query: LogQuery) -> list[LogEntry]:
    return [line for line in lines if line.at_ns >= query.since_ns] if query.since_ns else lines


async def _blocks(
    log: Path, query: LogQuery, ended: asyncio.Event | None, joiner: LineJoiner
) -> AsyncIterator[bytes]:
    """The log's bytes; an empty block per PAUSE_S while the joiner holds a line."""
    descriptor = await asyncio.to_thread(_start, log, query.tail)
    try:
        while True:
            while descriptor is None:
                if not query.follow or (ended and ended.is_set()):
                    return
                await asyncio.sleep(_GATHER_S)
                descriptor = _opened_after(log, 0)
            stop = partial(_is_over, log, _inode(descriptor), query.follow, ended)
            async for block in _blocks_of_file(descriptor, stop, joiner):
                yield block
            # Closed only after that: while it is open, no other file gets its inode.
            newer = _opened_after(log, _inode(descriptor))
            os.close(descriptor)
            descriptor = newer
            if descriptor is None:
                return
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _is_over(log: Path, inode: int, follow: bool, ended: asyncio.Event | None) -> bool:
    """Whether a newer file exists or nothing more will be written."""
    return not follow or bool(ended and ended.is_set()) or _has_newer(log, inode)


async def _blocks_of_file(
    descriptor: int, stop: Callable[[], bool], joiner: LineJoiner
) -> AsyncIterator[bytes]:
    """The blocks of one file, until `stop`."""
    loop = asyncio.get_running_loop()
    paused_at = loop.time()
    with FileWatch(Path(f"/proc/self/fd/{descriptor}"), Mask.MODIFY) as watch:
        while True:
            # Checked before reading, so that everything written before the rotation is read here.
            over = stop()
            while block := await asyncio.to_thread(os.read, descriptor, BLOCK_BYTES):
                yield block
            if over:
                return
            await _wait_for_more(descriptor, watch, PAUSE_S if joiner.holds else _WAIT_S)
            if joiner.holds and loop.time() >= paused_at + PAUSE_S:
                paused_at = loop.time()
                yield b""


async def _wait_for_more(descriptor: int, watch: FileWatch, timeout_s: float) -> None:
    """Return once the file has more to read, at the latest after `timeout_s`."""
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout_s
    while (left_s := until - loop.time()) > 0:
        await watch.changed(left_s)
        await asyncio.sleep(_GATHER_S)
        if os.fstat(descriptor).st_size > os.lseek(descriptor, 0, os.SEEK_CUR):
            return


def _inode(descriptor: int) -> int:
    return os.fstat(descriptor).st_ino


def _chain(log: Path) -> list[tuple[Path, int]]:
    """A consistent list of the files with their inodes, the oldest first."""
    before = _listed(log)
    while (now := _listed(log)) != before:
        before = now
    return now


def _listed(log: Path) -> list[tuple[Path, int]]:
    found = []
    for path in logrotate.files(log):
        with suppress(FileNotFoundError):
            found.append((path, path.stat().st_ino))
    return found


def _has_newer(log: Path, inode: int) -> bool:
    chain = _chain(log)
    return bool(chain) and chain[-1][1] != inode


def _opened_after(log: Path, inode: int) -> int | None:
    """Open the file after the one with this inode; the oldest if that file is gone, None if it is
    the newest.
    """
    while True:
        chain = _chain(log)
        inodes = [known for _, known in chain]
        position = inodes.index(inode) + 1 if inode in inodes else 0
        if position >= len(chain):
            return None
        if (descriptor := _opened(*chain[position])) is not None:
            return descriptor


def _opened(path: Path, inode: int) -> int | None:
    """Open the file with this inode, if `path` is still its name: a rotation may rename it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    if _inode(descriptor) == inode:
        return descriptor
    os.close(descriptor)
    return None


def _start(log: Path, tail: int) -> int | None:
    """An open file, positioned before the last `tail` lines of the log (-1: all)."""
    if tail < 0:
        return _opened_after(log, 0)
    while True:
        with ExitStack() as stack:
            opened = []
            for path, inode in _chain(log):
                if (descriptor := _opened(path, inode)) is not None:
                    opened.append(descriptor)
                    stack.callback(os.close, descriptor)
            if len(opened) < len(_chain(log)):
                continue  # a rotation happened meanwhile
            if not opened:
                return None
            return os.dup(_seek_last(opened, tail))


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
            if len(later) > LINE_BYTES_MAX:
                later = b""
    return 0, counted
