"""Unpacks an archive that nobody trusts, whole or not at all. SHELL.

Everything is written into a new directory beside the destination, and moved into place once the
archive has ended and was found valid. Directories are entered one name at a time without following
links, so nothing is ever written outside, also if a container changes its files meanwhile.
"""

import os
import stat
import tarfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from secrets import token_hex

import msgspec

from pyswarm_core.aio.archives import moving
from pyswarm_core.aio.archives.entries import (
    Landing,
    Parts,
    check_symlink,
    link_target,
    parts_of,
    refused,
)
from pyswarm_core.aio.archives.reading import Source, data_of, entries, xattrs_of
from pyswarm_core.aio.trees import remove_tree

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ID_MAX = (1 << 32) - 2
_TIME_MAX = 1 << 40


class Rights(msgspec.Struct, frozen=True):
    """What of the archive's rights a file gets."""

    owner: Callable[[int, int], tuple[int, int] | None]
    """The ids on this host of an entry's ids; None: those of this process. Raises Refused."""
    mode: int = 0o7777
    """The bits of modes that are kept."""
    attributes: bool = True
    """Whether extended attributes are kept."""


class Copied(msgspec.Struct):
    """What was unpacked."""

    entries: int = 0
    size: int = 0
    """Bytes of files, holes included."""


Arrive = Callable[[tarfile.TarInfo], tuple[int, Landing]]
"""The open directory of the destination, which is closed afterwards, and where an archive lands in
it whose first entry this is.
"""


def unpack(source: Source, arrive: Arrive, rights: Rights) -> Copied:
    """Unpack the archive. Raises Refused and Conflict, then nothing has changed; OSError if a file
    cannot be written.
    """
    found = entries(source)
    first = next(found, None)
    if first is None:
        source.drain()
        return Copied()
    directory, landing = arrive(first)
    try:
        return _unpacked(source, chain((first,), found), directory, _Rules(landing, rights))
    finally:
        os.close(directory)


class _Rules(msgspec.Struct):
    landing: Landing
    rights: Rights


def _unpacked(
    source: Source, found: Iterable[tarfile.TarInfo], directory: int, rules: _Rules
) -> Copied:
    staging = f".pyswarm-{token_hex(8)}"
    os.mkdir(staging, 0o700, dir_fd=directory)
    try:
        top = os.open(staging, _DIRECTORY, dir_fd=directory)
        try:
            work = _Unpacking(source, top, rules)
            work.run(found)
            moving.merge(top, directory)
        finally:
            os.close(top)
    finally:
        _remove(directory, staging)
    return work.copied


def _remove(directory: int, staging: str) -> None:
    if os.geteuid():  # directories that their owner may not write to cannot be emptied
        for _, names, _, parent in os.fwalk(staging, dir_fd=directory):
            for name in names:
                with suppress(OSError):
                    if stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):  # a link leads outside
                        os.chmod(name, 0o700, dir_fd=parent)
    remove_tree(Path(f"/proc/self/fd/{directory}/{staging}"))


class _Open(msgspec.Struct):
    """A directory that entries are written into; what it is to be like is set when it is left."""

    name: str
    descriptor: int
    mode: int
    times: tuple[int, int] | None = None


class _Unpacking:
    def __init__(self, source: Source, top: int, rules: _Rules) -> None:
        self.copied = Copied()
        self._source = source
        self._landing, self._rights = rules.landing, rules.rights
        self._top = top
        self._stack: list[_Open] = []

    def run(self, found: Iterable[tarfile.TarInfo]) -> None:
        try:
            for info in found:
                self._take(info, self._landing)
                self.copied.entries += 1
            self._source.drain()
        finally:
            self._leave(0)

    def _take(self, info: tarfile.TarInfo, landing: Landing) -> None:
        parts = landing.place(info.name, parts_of(info.name))
        if not parts:
            if not info.isdir():
                raise refused(info.name, "is the top of a directory and not a directory")
            return  # the destination itself stays as it is
        parent = self._enter(info.name, parts[:-1])
        name = parts[-1]
        if info.isdir():
            self._directory(info, parts)
        elif info.isreg():
            self._vacate(info, parent, name)
            self._file(info, parent, name)
        elif info.issym():
            check_symlink(info.name, parts, info.linkname)
            self._vacate(info, parent, name)
            os.symlink(info.linkname, name, dir_fd=parent)
            self._own(info, parent, name)
        elif info.islnk():
            target = landing.place(info.name, link_target(info.name, info.linkname))
            self._link(info, target, parent, name)
        elif info.isfifo():
            self._vacate(info, parent, name)
            os.mkfifo(name, self._mode(info) & 0o777, dir_fd=parent)
            self._own(info, parent, name)
        else:
            what = "is a device" if info.isdev() else f"has the unknown type {info.type!r}"
            raise refused(info.name, what)

    def _enter(self, name: str, parts: Parts) -> int:
        """A descriptor of the directory with this path in the new directory."""
        depth = 0
        while depth < min(len(parts), len(self._stack)) and self._stack[depth].name == parts[depth]:
            depth += 1
        self._leave(depth)
        for part in parts[depth:]:
            self._open(name, part)
        return self._stack[-1].descriptor if self._stack else self._top

    def _open(self, name: str, part: str) -> None:
        """Enter one directory below the current one; one without an entry is made."""
        parent = self._stack[-1].descriptor if self._stack else self._top
        with suppress(FileExistsError):
            os.mkdir(part, 0o755, dir_fd=parent)
            self._own_new(part, parent)
        try:
            descriptor = os.open(part, _DIRECTORY, dir_fd=parent)
        except OSError:
            raise refused(name, f"leads through {part!r}, which is no directory") from None
        found = os.fstat(descriptor)
        mode = stat.S_IMODE(found.st_mode)
        os.fchmod(descriptor, mode | 0o700)
        times = (found.st_atime_ns, found.st_mtime_ns)
        self._stack.append(_Open(part, descriptor, mode, times))

    def _own_new(self, name: str, parent: int) -> None:
        ids = self._rights.owner(0, 0)
        if ids is not None:
            os.chown(name, *ids, dir_fd=parent, follow_symlinks=False)

    def _leave(self, depth: int) -> None:
        """Leave directories down to this depth."""
        while len(self._stack) > depth:
            left = self._stack.pop()
            try:
                os.fchmod(left.descriptor, left.mode)
                if left.times is not None:
                    os.utime(left.descriptor, ns=left.times)
            finally:
                os.close(left.descriptor)

    def _directory(self, info: tarfile.TarInfo, parts: Parts) -> None:
        self._enter(info.name, parts)
        opened = self._stack[-1]
        self._set(info, opened.descriptor)
        opened.mode = self._mode(info)
        os.fchmod(opened.descriptor, opened.mode | 0o700)
        opened.times = (_time_ns(info), _time_ns(info))

    def _file(self, info: tarfile.TarInfo, parent: int, name: str) -> None:
        descriptor = os.open(name, _NEW, 0o600, dir_fd=parent)
        try:
            for offset, part in data_of(self._source, info):
                _write(descriptor, part, offset)
            if os.fstat(descriptor).st_size < info.size:
                os.truncate(descriptor, info.size)
            self._set(info, descriptor)
            os.fchmod(descriptor, self._mode(info))
            os.utime(descriptor, ns=(_time_ns(info), _time_ns(info)))
        finally:
            os.close(descriptor)
        self.copied.size += info.size

    def _link(self, info: tarfile.TarInfo, target: Parts, parent: int, name: str) -> None:
        self._vacate(info, parent, name)
        try:
            with _opened(self._top, target[:-1]) as source:
                found = os.stat(target[-1], dir_fd=source, follow_symlinks=False)
                if not stat.S_ISREG(found.st_mode):
                    raise refused(info.name, f"is a hard link to {info.linkname!r}, no file")
                os.link(
                    target[-1], name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False
                )
        except (FileNotFoundError, NotADirectoryError):
            reason = f"is a hard link to {info.linkname!r}, which no entry before it is"
            raise refused(info.name, reason) from None

    def _vacate(self, info: tarfile.TarInfo, parent: int, name: str) -> None:
        """Of two entries of one name the later one counts, as in tar."""
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            pass
        except (IsADirectoryError, PermissionError):
            raise refused(info.name, "replaces a directory of the archive") from None

    def _set(self, info: tarfile.TarInfo, descriptor: int) -> None:
        """The owner and attributes; before the mode, whose bits a change of the owner clears."""
        if (ids := self._ids(info)) is not None:
            os.chown(descriptor, *ids)
        for name, value in (xattrs_of(info) if self._rights.attributes else {}).items():
            if name.startswith("user.") or name == "security.capability":
                with suppress(OSError):  # not every file system has them
                    os.setxattr(descriptor, name, value)

    def _own(self, info: tarfile.TarInfo, parent: int, name: str) -> None:
        if (ids := self._ids(info)) is not None:
            os.chown(name, *ids, dir_fd=parent, follow_symlinks=False)
        times = (_time_ns(info), _time_ns(info))
        os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)

    def _ids(self, info: tarfile.TarInfo) -> tuple[int, int] | None:
        if not 0 <= info.uid <= _ID_MAX or not 0 <= info.gid <= _ID_MAX:
            raise refused(info.name, "has an owner that is not valid")
        return self._rights.owner(info.uid, info.gid)

    def _mode(self, info: tarfile.TarInfo) -> int:
        return info.mode & self._rights.mode


def _time_ns(info: tarfile.TarInfo) -> int:
    if not -_TIME_MAX < info.mtime < _TIME_MAX:  # also nan
        raise refused(info.name, "has a time that is not valid")
    return int(info.mtime * 1_000_000_000)


def _write(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


class _opened:  # noqa: N801  # used like a function
    """A descriptor of the directory with this path, which no link leads to."""

    def __init__(self, top: int, parts: Parts) -> None:
        self._descriptor = os.dup(top)
        try:
            for part in parts:
                inner = os.open(part, _DIRECTORY, dir_fd=self._descriptor)
                os.close(self._descriptor)
                self._descriptor = inner
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
