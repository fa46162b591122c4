"""Opening files of a container's root file system from the host. SHELL over openat2(2).

Invariant: no symbolic link, `..` or magic link of an image leads out of its root: the kernel
resolves every path as if the process had that root (RESOLVE_IN_ROOT, Linux 5.6).
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
# The same number on every architecture: system calls after 424 are numbered alike.
_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_IN_ROOT = 0x10


class _How(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


class Root:
    """A root file system."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def opened(self, path: str, flags: int = os.O_PATH) -> Iterator[int]:
        """A descriptor of `path`, resolved in this root. Raises OSError."""
        how = _How(flags | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
        root = os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            descriptor = _LIBC.syscall(
                _OPENAT2, root, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how)
            )
            number = ctypes.get_errno()
        finally:
            os.close(root)
        if descriptor < 0:
            raise OSError(number, os.strerror(number), path)
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
