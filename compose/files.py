"""Files on disk and the standard input. SHELL: the one module of this package that reads."""

import os
import stat
import sys

from compose.limits import FILE_BYTES_MAX


class Disk:
    """What a project's files are read from. Each is read once, so that a load sees one state."""

    def __init__(self) -> None:
        self._read: dict[str, bytes] = {}

    def read(self, path: str) -> bytes:
        """A file, of a longer one the first part with one byte too many. Raises OSError."""
        if path not in self._read:
            self._read[path] = _stdin() if path == "-" else _file(path)
        return self._read[path]

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


def _file(path: str) -> bytes:
    # Without O_NONBLOCK a FIFO that nobody writes to would be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise IsADirectoryError(21, "Is a directory", path)
        return file.read(FILE_BYTES_MAX + 1) or b""
