"""The files of a container that differ from its image, as `docker diff` shows them. SHELL.

Walks the overlay's upper directory, which holds nothing else. The container may change it
meanwhile: no symbolic link is followed in it. The layers of the image do not change.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from agent.runtime.base import Rootfs
from pyswarm_core.aio.archives.limits import ARCHIVE_DEPTH_MAX, CHANGES_MAX
from pyswarm_core.errors import Conflict, Exhausted, quoted

ADDED, CHANGED, DELETED = "A", "C", "D"
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPAQUE = "trusted.overlay.opaque"


class Change(NamedTuple):
    """One path that differs: added, changed or deleted."""

    kind: str
    path: str


def changes(rootfs: Rootfs) -> Iterator[Change]:
    """The changes, a directory before what is in it. Raises Exhausted if there are too many."""
    mounts = frozenset(rootfs.mounts)
    parents = frozenset(path.rpartition("/")[0] for path in mounts)
    walk = _Walk(mounts, parents)
    top = os.open(rootfs.upper, _OPEN)
    try:
        yield from walk.below(top, "", rootfs.layers)
    finally:
        os.close(top)


class _Walk:
    """`mounts`: paths that the OCI runtime made; `parents`: their directories, whose times it
    changed.
    """

    def __init__(self, mounts: frozenset[str], parents: frozenset[str]) -> None:
        self._mounts = mounts
        self._parents = parents
        self._seen = 0

    def below(self, directory: int, path: str, lower: Sequence[str]) -> Iterator[Change]:
        """The changes below an open directory; `lower` are the same directory in the layers."""
        if path.count("/") > ARCHIVE_DEPTH_MAX:
            raise Conflict(f"{quoted(path)} is deeper than {ARCHIVE_DEPTH_MAX} directories")
        for name in self._names(directory):
            here = f"{path}/{name}"
            if here in self._mounts:
                continue
            with suppress(FileNotFoundError):  # the container removed it meanwhile
                found = os.stat(name, dir_fd=directory, follow_symlinks=False)
                yield from self._of(directory, name, here, found, lower)

    def _names(self, directory: int) -> list[str]:
        names = []
        with os.scandir(directory) as listing:
            for entry in listing:
                self._seen += 1
                if self._seen > CHANGES_MAX:
                    raise Exhausted(f"more than {CHANGES_MAX} files differ, which is the limit")
                names.append(entry.name)
        return sorted(names)

    def _of(
        self,
        directory: int,
        name: str,
        path: str,
        found: os.stat_result,
        lower: Sequence[str],
    ) -> Iterator[Change]:
        if _is_whiteout(found):
            yield Change(DELETED, path)
            return
        former, below = _in_layers(lower, name)
        kind = ADDED if former is None else CHANGED
        if not stat.S_ISDIR(found.st_mode):
            yield Change(kind, path)
            return
        child = os.open(name, _OPEN, dir_fd=directory)
        try:
            inside = self.below(child, path, () if _is_opaque(child) else below)
            # As in Docker, a directory that is the same as before has changed only if a name in it
            # came or went.
            same = former is not None and self._is_same(path, former, found)
            yield from _with_parent(Change(kind, path), inside, announced=not same)
        finally:
            os.close(child)

    def _is_same(self, path: str, former: os.stat_result, found: os.stat_result) -> bool:
        before, after = _attributes(former), _attributes(found)
        if path in self._parents:
            return before == after
        return (*before, former.st_mtime_ns) == (*after, found.st_mtime_ns)


def _with_parent(parent: Change, inside: Iterator[Change], *, announced: bool) -> Iterator[Change]:
    """The changes inside, after their parent as soon as one of them concerns it."""
    depth = parent.path.count("/") + 1
    held: list[Change] = []
    if announced:
        yield parent
    for change in inside:
        if not announced:
            held.append(change)
            if change.kind == CHANGED or change.path.count("/") > depth:
                continue
            announced = True
            yield parent
            yield from held
            held.clear()
        else:
            yield change
    yield from held


def _in_layers(lower: Sequence[str], name: str) -> tuple[os.stat_result | None, tuple[str, ...]]:
    """The status of a name in the merged layers, and the directories that it is in them."""
    former: os.stat_result | None = None
    found: list[str] = []
    for layer in lower:
        path = f"{layer}/{name}"
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue
        is_directory = stat.S_ISDIR(status.st_mode)
        if former is None:
            former = None if _is_whiteout(status) else status
        if not is_directory:
            break
        found.append(path)
        if _has_opaque(path):
            break
    return former, tuple(found)


def _attributes(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mode, status.st_uid, status.st_gid


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_opaque(descriptor: int) -> bool:
    try:
        return os.getxattr(descriptor, _OPAQUE) == b"y"
    except OSError:
        return False


def _has_opaque(path: str) -> bool:
    try:
        return os.getxattr(path, _OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False
