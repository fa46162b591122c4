"""Moves what was unpacked into place. SHELL.

Names that the destination lacks are moved as they are; of directories that both have, the content
is. Conflicts are found before anything is moved.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from pyswarm_core.errors import Conflict, quoted

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def merge(source: int, target: int) -> None:
    """Move all names of one open directory into another one of the same file system.

    Raises Conflict if a directory would replace something else, or the reverse; then nothing was
    moved.
    """
    _check(source, target, "")
    _move(source, target)


def _check(source: int, target: int, path: str) -> None:
    mount = _mount_of(target)
    for name in _names(source):
        here = f"{path}{name}"
        old = _look(target, name)
        if old is None:
            continue
        new = os.stat(name, dir_fd=source, follow_symlinks=False)
        if old.mount != mount:
            raise Conflict(f"{quoted(here)} is a mount point: name it as the destination")
        if stat.S_ISDIR(new.st_mode):
            if not stat.S_ISDIR(old.mode):
                raise Conflict(f"cannot overwrite non-directory {quoted(here)} with directory")
            with _both(source, target, name) as (inner, outer):
                _check(inner, outer, f"{here}/")
        elif stat.S_ISDIR(old.mode):
            raise Conflict(f"cannot overwrite directory {quoted(here)} with non-directory")
        elif stat.S_IFMT(old.mode) not in (stat.S_IFREG, stat.S_IFLNK, stat.S_IFMT(new.st_mode)):
            raise Conflict(f"cannot overwrite {quoted(here)}: it is a device, socket or pipe")


def _move(source: int, target: int) -> None:
    for name in _names(source):
        new = os.stat(name, dir_fd=source, follow_symlinks=False)
        if not stat.S_ISDIR(new.st_mode):
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
        elif (old := _look(target, name)) is not None and stat.S_ISDIR(old.mode):
            with _both(source, target, name) as (inner, outer):
                # Moving a name out of a directory needs the right to write to it.
                os.fchmod(inner, stat.S_IMODE(new.st_mode) | 0o700)
                _move(inner, outer)
                _take_over(new, outer)
        else:
            with _writable(source, name, stat.S_IMODE(new.st_mode)):
                os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)


@contextmanager
def _writable(directory: int, name: str, mode: int) -> Iterator[None]:
    """Moving a directory changes its `..`, which needs the right to write to it."""
    if mode & 0o200:
        yield
        return
    descriptor = os.open(name, _DIRECTORY, dir_fd=directory)
    try:
        os.fchmod(descriptor, mode | 0o200)
        yield
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def _take_over(new: os.stat_result, target: int) -> None:
    """An existing directory gets the archive's owner, mode and time, as with tar."""
    with suppress(PermissionError):
        os.chown(target, new.st_uid, new.st_gid)
    os.fchmod(target, stat.S_IMODE(new.st_mode))
    os.utime(target, ns=(new.st_atime_ns, new.st_mtime_ns))


class _Found(NamedTuple):
    mode: int
    mount: str


def _names(directory: int) -> Iterator[str]:
    """The names of an open directory, which may be moved away meanwhile."""
    with os.scandir(directory) as listing:
        for entry in listing:
            yield entry.name


def _look(directory: int, name: str) -> _Found | None:
    """What has the name; None: nothing."""
    try:
        descriptor = os.open(name, _PATH, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        return _Found(os.fstat(descriptor).st_mode, _mount_of(descriptor))
    finally:
        os.close(descriptor)


@contextmanager
def _both(source: int, target: int, name: str) -> Iterator[tuple[int, int]]:
    inner = os.open(name, _DIRECTORY, dir_fd=source)
    try:
        outer = os.open(name, _DIRECTORY, dir_fd=target)
        try:
            yield inner, outer
        finally:
            os.close(outer)
    finally:
        os.close(inner)


def _mount_of(descriptor: int) -> str:
    """The id of the mount that a descriptor is on. A rename over a mount point of another mount
    namespace would detach that mount.
    """
    lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().split("\n")
    return next((line for line in lines if line.startswith("mnt_id:")), "")
