"""Files on disk and the standard input. SHELL: the one module of this package that reads."""

import os
import stat
import sys
from typing import NamedTuple

from compose.limits import FILE_BYTES_MAX
from compose.report import refusal
from compose.tree import Place


class _State(NamedTuple):
    """What differs once a file was written to, or another one took its name."""

    device: int
    inode: int
    size: int
    modified_ns: int


class Disk:
    """What a project's files are read from. Each is read once; `expect_unchanged` says whether
    what was read is one state of them all.
    """

    def __init__(self) -> None:
        self._read: dict[str, bytes] = {}
        self._states: dict[str, _State] = {}

    def read(self, path: str) -> bytes:
        """A file, of a longer one the first part with one byte too many. Raises OSError."""
        if path not in self._read:
            self._read[path] = _stdin() if path == "-" else self._file(path)
        return self._read[path]

    def expect_unchanged(self) -> None:
        """Raises Refused, which names the file, if one changed after it was read."""
        for path, state in self._states.items():
            if _state_now(path) != state:
                text = "the file changed while the project was read: run the command again"
                raise refusal(Place(path), (), text)

    def _file(self, path: str) -> bytes:
        # Without O_NONBLOCK a FIFO that nobody writes to would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(21, "Is a directory", path)
            if stat.S_ISREG(status.st_mode):
                self._states[path] = _state(status)
            return file.read(FILE_BYTES_MAX + 1) or b""

    def has(self, path: str) -> bool:
        """Whether there is something at the path that may be read."""
        return os.path.exists(path)  # noqa: PTH110  # paths are texts here

    def is_executable(self, path: str) -> bool:
        """Whether its owner may execute the file."""
        try:
            return bool(os.stat(path).st_mode & stat.S_IXUSR)  # noqa: PTH116
        except OSError:
            return False


def _stdin() -> bytes:
    return sys.stdin.buffer.read(FILE_BYTES_MAX + 1)


def _state(status: os.stat_result) -> _State:
    return _State(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _state_now(path: str) -> _State | None:
    try:
        return _state(os.stat(path))  # noqa: PTH116
    except OSError:
        return None
