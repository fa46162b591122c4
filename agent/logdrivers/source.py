"""The files of one container's log as messages, from a position that is kept on disk. SHELL.

The position is written after every message that was sent: after the agent's death no message is
lost, and at most one is sent twice. It names its file by inode and first record, since inodes of
removed files are used again.
"""

import os
from collections import deque
from contextlib import suppress
from pathlib import Path

from agent.logdrivers.splitting import Message, Splitter
from agent.runtime import logrotate

BLOCK_BYTES = 64 * 1024
_HEAD_BYTES = 35
"""The time of a record, with nanoseconds."""
_POSITION_BYTES = 128


class Source:
    """Reads a log that conmon writes. `close` it."""

    def __init__(self, log: Path, noted: Path) -> None:
        self._log = log
        self._position = os.open(noted, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._file = -1
        self._name = b""
        self._splitter = Splitter()
        self._queued: deque[Message] = deque()
        self.skipped = 0
        """How often files were removed before they were read."""

    def close(self) -> None:
        """Close the files; the position stays."""
        self._close_file()
        if self._position >= 0:
            os.close(self._position)
            self._position = -1

    def next(self) -> Message | None:
        """The next message, the same until `sent` is called; None: there is no more yet."""
        while not self._queued:
            if self._file < 0 and not self._open_first():
                return None
            block = os.read(self._file, BLOCK_BYTES)
            if block:
                self._queued.extend(self._splitter.feed(block))
            elif not self._open_next():
                return None
        return self._queued[0]

    def sent(self) -> None:
        """Note that the message was sent."""
        message = self._queued.popleft()
        text = b"%b %d %d" % (self._named(), message.end, message.held)
        os.pwrite(self._position, text.ljust(_POSITION_BYTES), 0)

    def end(self) -> Message | None:
        """As `next` of a container that has ended: its last line may have no end."""
        message = self.next()
        if message is None:
            self._queued.extend(self._splitter.flush())
        return self._queued[0] if self._queued else None

    def _named(self) -> bytes:
        """The file's inode and first record. A file that had none when it was opened has one."""
        if not self._name:
            self._name = _name(self._file)
        return self._name

    def _open_first(self) -> bool:
        """Open the file of the position, else the oldest."""
        name, sent, held = self._noted()
        oldest = -1
        for path in logrotate.files(self._log):
            with suppress(FileNotFoundError):
                file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                if name and _name(file) == name:
                    os.lseek(file, held, os.SEEK_SET)
                    self._splitter = Splitter(held, sent)
                    self._take(file)
                    if oldest >= 0:
                        os.close(oldest)
                    return True
                if oldest < 0:
                    oldest = file
                else:
                    os.close(file)
        if oldest >= 0:
            self.skipped += bool(name)
            self._take(oldest)
        return oldest >= 0

    def _open_next(self) -> bool:
        """At the end of a file: open the one after it, if there is one. It is made only after the
        last record of its predecessor, which is read to the end once more.
        """
        files = [(path, logrotate.inode(path)) for path in logrotate.files(self._log)]
        inodes = [inode for _, inode in files]
        own = os.fstat(self._file).st_ino
        if inodes and inodes[-1] == own:
            return False
        if block := os.read(self._file, BLOCK_BYTES):
            self._queued.extend(self._splitter.feed(block))
            return True
        position = inodes.index(own) + 1 if own in inodes else 0
        for path, inode in files[position : position + 1]:
            with suppress(FileNotFoundError):
                file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                if os.fstat(file).st_ino != inode:  # renamed meanwhile
                    os.close(file)
                    return True
                self.skipped += own not in inodes
                self._splitter.next_file()
                self._take(file)
        return bool(files)

    def _take(self, file: int) -> None:
        self._close_file()
        self._file = file
        self._name = b""

    def _close_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _noted(self) -> tuple[bytes, int, int]:
        """The name of the position's file, the offset behind what was sent, and that of the first
        record of an unfinished line.
        """
        fields = os.pread(self._position, _POSITION_BYTES, 0).split()
        if len(fields) != 4 or not (fields[2].isdigit() and fields[3].isdigit()):
            return b"", 0, 0
        return b" ".join(fields[:2]), int(fields[2]), int(fields[3])


def _name(file: int) -> bytes:
    """The inode and the first record's time; empty while there is none."""
    head = os.pread(file, _HEAD_BYTES, 0)
    if len(head) < _HEAD_BYTES:
        return b""
    return b"%d %b" % (os.fstat(file).st_ino, head.split(b" ")[0])
