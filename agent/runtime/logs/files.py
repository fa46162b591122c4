"""The files of one log, in the order in which they were written. SHELL.

Files are identified by inode: rotation changes their names.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from agent.runtime import logrotate


def chain(log: Path) -> list[tuple[Path, int]]:
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


def inode_of(descriptor: int) -> int:
    """The inode of an open file."""
    return os.fstat(descriptor).st_ino


def has_newer(log: Path, inode: int) -> bool:
    """Whether the file with this inode is not the newest."""
    found = chain(log)
    return bool(found) and found[-1][1] != inode


def opened_after(log: Path, inode: int) -> int | None:
    """Open the file after the one with this inode; the oldest if that file is gone, None if it is
    the newest.
    """
    while True:
        found = chain(log)
        inodes = [known for _, known in found]
        position = inodes.index(inode) + 1 if inode in inodes else 0
        if position >= len(found):
            return None
        if (descriptor := _opened(*found[position])) is not None:
            return descriptor


def opened(log: Path, inode: int) -> int | None:
    """Open the file with this inode; None if it is gone."""
    while True:
        paths = [path for path, known in chain(log) if known == inode]
        if not paths:
            return None
        if (descriptor := _opened(paths[0], inode)) is not None:
            return descriptor


def _opened(path: Path, inode: int) -> int | None:
    """Open the file with this inode, if `path` is still its name: a rotation may rename it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    if inode_of(descriptor) == inode:
        return descriptor
    os.close(descriptor)
    return None


@contextmanager
def all_opened(log: Path) -> Iterator[list[int]]:
    """All files, the oldest first; they are closed with the block."""
    while True:
        with ExitStack() as stack:
            opened = []
            for path, inode in chain(log):
                if (descriptor := _opened(path, inode)) is not None:
                    opened.append(descriptor)
                    stack.callback(os.close, descriptor)
            if len(opened) == len(chain(log)):  # else a rotation happened meanwhile
                yield opened
                return
