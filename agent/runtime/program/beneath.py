"""Opening files of a container's root file system from the host, and sources of binds. SHELL over
openat2(2).

Invariants: no symbolic link, `..` or magic link of an image leads out of its root: the kernel
resolves every path as if the process had that root (RESOLVE_IN_ROOT, Linux 5.6). A path beneath a
directory never leaves it, whatever changes meanwhile (RESOLVE_BENEATH). No path is resolved through
magic links (/proc/PID/root, /proc/PID/fd), which lead into other processes' files.
"""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
# The same number on every architecture: system calls after 424 are numbered alike.
_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_RESOLVE_IN_ROOT = 0x10
_RACES = 64
"""The kernel returns EAGAIN if a rename elsewhere may have moved what it resolves."""


class _How(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def open_in(root: Path, path: str, flags: int = os.O_PATH) -> int:
    """A descriptor of `path`, resolved in this root, which the caller closes. Raises OSError."""
    with Root(root).opened(path, flags) as descriptor:
        return os.dup(descriptor)


def _open(folder: int, path: str, flags: int, resolve: int) -> int:
    how = _How(flags | os.O_CLOEXEC, 0, resolve)
    name, number = os.fsencode(path), errno.EAGAIN
    for _ in range(_RACES):
        descriptor: int = _LIBC.syscall(
            _OPENAT2, folder, name, ctypes.byref(how), ctypes.sizeof(how)
        )
        if descriptor >= 0:
            return descriptor
        if (number := ctypes.get_errno()) != errno.EAGAIN:
            break
    raise OSError(number, os.strerror(number), path)


def open_plain(path: str) -> int:
    """A descriptor (O_PATH) of a directory of the host none of whose names is a symbolic link.
    Raises OSError.
    """
    return _open(-1, path, os.O_PATH | os.O_DIRECTORY, _RESOLVE_NO_SYMLINKS)


def open_beneath(folder: int, path: str, flags: int = os.O_PATH) -> int:
    """A descriptor of a path relative to a directory, which symbolic links do not leave. Raises
    OSError.
    """
    return _open(folder, path, flags, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)


class Root:
    """A root file system."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def opened(self, path: str, flags: int = os.O_PATH) -> Iterator[int]:
        """A descriptor of `path`, resolved in this root. Raises OSError."""
        root = os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            descriptor = _open(root, path, flags, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
        finally:
            os.close(root)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def stat(self, path: str, *, follow: bool = True) -> os.stat_result:
        """The status of a file; with `follow` off, of the link itself. Raises OSError."""
        with self.opened(path, os.O_PATH if follow else os.O_PATH | os.O_NOFOLLOW) as descriptor:
            return os.fstat(descriptor)

    def target(self, path: str) -> str:
        """The target of a symbolic link; empty if the path is none."""
        try:
            with self.opened(path, os.O_PATH | os.O_NOFOLLOW) as descriptor:
                return os.readlink("", dir_fd=descriptor)
        except OSError:
            return ""

    def resolved(self, path: str) -> str:
        """The path without links, as seen in the container. Raises OSError."""
        with self.opened(path) as descriptor:
            found = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        return found.removeprefix(str(self._path.resolve())) or "/"

    def head(self, path: str, size: int) -> bytes:
        """The first bytes of a regular file. Raises OSError."""
        # Without O_NONBLOCK, opening a FIFO would block.
        with self.opened(path, os.O_RDONLY | os.O_NONBLOCK) as descriptor:
            return os.read(descriptor, size)
