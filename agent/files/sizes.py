"""The bytes of a container's writable layer, as `ps --size` shows them. SHELL.

As in Docker, a file counts with its length, holes included, and once under all its names.
Directories count nothing. No symbolic link is followed: the container may change its files
meanwhile.
"""

import os
import stat
from collections.abc import Generator, Iterator
from contextlib import suppress

from agent.runtime.base import Rootfs
from pyswarm_core.aio.archives.limits import (
    ARCHIVE_DEPTH_MAX,
    ARCHIVE_LINKS_MAX,
    SIZE_ENTRIES_MAX,
)

ENTRIES_AT_ONCE = 1_000
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class TooMany(Exception):
    """The layer has more entries, more links or deeper paths than are measured."""


def written(rootfs: Rootfs) -> Generator[int]:
    """The bytes counted so far, every ENTRIES_AT_ONCE entries; the last item is the whole. Raises
    TooMany.
    """
    size, linked = 0, set[int]()
    top = os.open(rootfs.upper, _OPEN)
    try:
        for count, found in enumerate(_files(top, 0), 1):
            if count > SIZE_ENTRIES_MAX:
                raise TooMany
            if count % ENTRIES_AT_ONCE == 0:
                yield size
            if stat.S_ISDIR(found.st_mode):
                continue
            if found.st_nlink > 1:
                if found.st_ino in linked:
                    continue
                if len(linked) >= ARCHIVE_LINKS_MAX:
                    raise TooMany
                linked.add(found.st_ino)
            size += found.st_size
    finally:
        os.close(top)
    yield size


def _files(directory: int, depth: int) -> Iterator[os.stat_result]:
    """Every entry below an open directory."""
    if depth > ARCHIVE_DEPTH_MAX:
        raise TooMany
    with os.scandir(directory) as listing:
        for entry in listing:
            with suppress(FileNotFoundError, NotADirectoryError):  # it has changed meanwhile
                found = entry.stat(follow_symlinks=False)
                yield found
                if stat.S_ISDIR(found.st_mode):
                    child = os.open(entry.name, _OPEN, dir_fd=directory)
                    try:
                        yield from _files(child, depth + 1)
                    finally:
                        os.close(child)
