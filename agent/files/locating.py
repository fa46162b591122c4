"""Paths of users in the files of a container. SHELL.

Every path is resolved by the kernel beneath the container's root (openat2), so no link leads out of
it. File systems of the kernel, such as /proc, are not copied: their files have no size, and writing
to them acts on the host.
"""

import ctypes
import errno
import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.runtime.base import Rootfs
from agent.runtime.program.beneath import Root
from pyswarm_core.aio.archives.entries import (
    Existing,
    Landing,
    Source,
    asserts_directory,
    into_directory,
    landing,
    trimmed,
)
from pyswarm_core.errors import Conflict, InvalidArgument, NotFound, PyswarmError, quoted, reason_of

_LIBC = ctypes.CDLL(None, use_errno=True)
_STATFS_BYTES = 256
_KERNEL = frozenset(
    {
        0x9FA0,  # proc
        0x62656572,  # sysfs
        0x27E0EB,  # cgroup
        0x63677270,  # cgroup2
        0x1CD1,  # devpts
        0x19800202,  # mqueue
        0x64626720,  # debugfs
        0x74726163,  # tracefs
        0xCAFE4A11,  # bpf
        0x73636673,  # securityfs
    }
)
"""f_type of statfs(2)."""
_LINKS_MAX = 40
_DIRECTORY = os.O_PATH | os.O_DIRECTORY


@contextmanager
def opened_source(rootfs: Rootfs, path: str, *, follow: bool) -> Iterator[int]:
    """A descriptor (O_PATH) of a file to copy; a link at the end of the path is followed if asked.

    Raises NotFound, InvalidArgument and Conflict.
    """
    must_be_directory = asserts_directory(path)
    flags = os.O_PATH if follow or must_be_directory else os.O_PATH | os.O_NOFOLLOW
    with _errors(path), _root(rootfs).opened(_absolute(path), flags) as descriptor:
        if must_be_directory and not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise InvalidArgument(f"{quoted(path)} is not a directory")
        _require_copyable(descriptor, path)
        _require_present(rootfs, descriptor, path)
        yield descriptor


def open_destination(rootfs: Rootfs, path: str, source: Source | None) -> tuple[int, Landing]:
    """The open directory into which a copy to the path goes, and where it lands in it. `source` is
    None for an archive of a user. The caller closes the directory.

    Raises NotFound, InvalidArgument and Conflict.
    """
    with _errors(path):
        root = _root(rootfs)
        final, existing = _followed(root, trimmed(_absolute(path)))
        if source is None:
            place = into_directory(path, existing)
        else:
            shown = f"{final}/" if asserts_directory(path) and final != "/" else final
            place = landing(source, shown, existing)
        parent = final if place.inside else posixpath.dirname(final)
        with root.opened(parent, _DIRECTORY) as descriptor:
            _require_copyable(descriptor, path)
            _require_present(rootfs, descriptor, path)
            _require_writable(rootfs, descriptor)
            return os.dup(descriptor), place


def _require_present(rootfs: Rootfs, descriptor: int, path: str) -> None:
    status = os.fstat(descriptor)
    if (status.st_dev, status.st_ino) == rootfs.absent:
        reason = "is on a mount that only the running container has: start it first"
        raise Conflict(f"{quoted(path)} {reason}")


def _require_writable(rootfs: Rootfs, descriptor: int) -> None:
    """The errors have Docker's words."""
    if _is_overlay(rootfs, descriptor):
        if rootfs.read_only:
            raise Conflict("container rootfs is marked read-only")
    elif os.fstatvfs(descriptor).f_flag & os.ST_RDONLY:
        raise Conflict("mounted volume is marked read-only")


def _followed(root: Root, path: str) -> tuple[str, Existing]:
    """The path after links at its end, which need not exist, and what is there."""
    for _ in range(_LINKS_MAX):
        try:
            status = root.stat(path, follow=False)
        except FileNotFoundError:
            return path, Existing()
        if not stat.S_ISLNK(status.st_mode):
            return path, Existing(exists=True, is_directory=stat.S_ISDIR(status.st_mode))
        path = posixpath.join(posixpath.dirname(path), root.target(path))
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _root(rootfs: Rootfs) -> Root:
    return Root(Path(f"/proc/self/fd/{rootfs.descriptor}"))


def _absolute(path: str) -> str:
    """As in Docker, a relative path begins at the root."""
    if "\0" in path:
        raise InvalidArgument(f"{quoted(path)} is not a valid path")
    return path if path.startswith("/") else f"/{path}"


@contextmanager
def _errors(path: str) -> Iterator[None]:
    try:
        yield
    except PyswarmError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"no such file or directory: {quoted(path)}") from error
    except OSError as error:
        raise Conflict(reason_of(error)) from error


def _require_copyable(descriptor: int, path: str) -> None:
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if _LIBC.fstatfs(descriptor, buffer):
        return
    kind = ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ulong))[0]
    if kind in _KERNEL:
        reason = "is in a file system of the kernel: use exec to read or write it"
        raise InvalidArgument(f"{quoted(path)} {reason}")


def _is_overlay(rootfs: Rootfs, descriptor: int) -> bool:
    """Whether the directory is on the container's own file system, not on a mount of it."""
    return os.fstat(descriptor).st_dev == Path(rootfs.overlay).stat().st_dev
