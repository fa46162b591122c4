"""The files of one log, in the order in which they were written. SHELL.

Files are identified by inode: rotation changes their names. It moves each file only to a higher
number. So one pass over the names from the newest on meets every file that existed when it began;
a file that is moved meanwhile may be met twice, and its place is where it was met last.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count, pairwise
from pathlib import Path

from agent.runtime import logrotate


def inode_of(descriptor: int) -> int:
    """The inode of an open file."""
    return os.fstat(descriptor).st_ino


def has_newer(log: Path, inode: int) -> bool:
    """Whether the file with this inode is not the newest. One `stat`, three if the log is gone."""
    newest = next(filter(None, map(logrotate.inode, _newest_names(log))), None)
    return newest is not None and newest != inode


def opened_after(log: Path, inode: int) -> int | None:
    """Open the file after the one with this inode; the oldest if that file is gone, None if it is
    the newest. It may open all files: beside the event loop only.
    """
    if (near := _opened_after_a_new_one(log, inode)) is not None:
        return near
    with all_opened(log) as opened:
        inodes = [inode_of(descriptor) for descriptor in opened]
        position = inodes.index(inode) + 1 if inode in inodes else 0
        return os.dup(opened[position]) if position < len(opened) else None


def _opened_after_a_new_one(log: Path, inode: int) -> int | None:
    """`opened_after` of one of the two files before the newest: those of a reader that follows."""
    for path, older in pairwise(_newest_names(log)):
        descriptor = _opened(path)
        if descriptor is None:
            continue
        # In this order: a rotation between the two moves the older one further away.
        if inode_of(descriptor) != inode == logrotate.inode(older):
            return descriptor
        os.close(descriptor)
    return None


@contextmanager
def all_opened(log: Path) -> Iterator[list[int]]:
    """All files, the oldest first; they are closed with the block. Beside the event loop only."""
    with ExitStack() as stack:
        met: dict[int, int] = {}
        for descriptor in _newest_first(log):
            stack.callback(os.close, descriptor)
            inode = inode_of(descriptor)
            met.pop(inode, None)
            met[inode] = descriptor
        yield list(reversed(met.values()))


def _newest_first(log: Path) -> Iterator[int]:
    """Open the files under all their names, in one pass."""
    if (current := _opened(log)) is not None:
        yield current
    absent = 0
    for number in count():
        descriptor = _opened(logrotate.rotated(log, number))
        if descriptor is not None:
            absent = 0
            yield descriptor
        elif number > 0:  # the second name may be missing
            absent += 1
            if absent == 2:  # during a rotation one name is missing
                return


def _newest_names(log: Path) -> tuple[Path, Path, Path]:
    return log, logrotate.rotated(log, 0), logrotate.rotated(log, 1)


def _opened(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
