"""Makes a tar stream of files whose owner may change them meanwhile. SHELL.

No symbolic link is followed and no device is opened: each file is first opened as a path (O_PATH),
and read only if it is a regular file then. A file that shrinks while it is read is an error, of one
that grows the beginning is taken. Other mounts below the top are left out.
"""

import errno
import os
import stat
import tarfile
from collections.abc import Callable, Container, Generator, Iterator
from contextlib import suppress

import msgspec

from pyswarm_core.aio.archives.limits import (
    ARCHIVE_DEPTH_MAX,
    ARCHIVE_EXTENTS_MAX,
    ARCHIVE_LINKS_MAX,
)
from pyswarm_core.aio.archives.reading import XATTR, Extent
from pyswarm_core.errors import Conflict, quoted

CHUNK = 128 * 1024
_BLOCK = tarfile.BLOCKSIZE
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_SECURITY = "security.capability"
_ENCODING, _ERRORS = "utf-8", "surrogateescape"

Owner = Callable[[os.stat_result], tuple[int, int]]
"""The user and group id that an entry gets."""


def owners_of(status: os.stat_result) -> tuple[int, int]:
    """The ids of the file itself."""
    return status.st_uid, status.st_gid


def pack(descriptor: int, name: str, owner: Owner = owners_of) -> Generator[bytes]:
    """The archive of an open file (O_PATH will do), whose entries begin with `name`; empty: of the
    content of a directory. The chunks have CHUNK bytes, or a little more.

    Raises OSError and Conflict for a file that cannot be read as it was.
    """
    return _chunks(_Packer(owner).top(descriptor, name))


def pack_root(
    descriptor: int, owner: Owner = owners_of, left_out: Container[str] = ()
) -> Generator[bytes]:
    """The same of the content of a root directory, whose entries begin with their own names.
    `left_out`: the paths, below it, of entries that the archive does not have.
    """
    return _chunks(_Packer(owner, left_out).content(descriptor))


def _chunks(pieces: Iterator[bytes]) -> Generator[bytes]:
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= CHUNK:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join((*held, bytes(2 * _BLOCK)))


class _Frame(msgspec.Struct):
    """A directory that is being walked."""

    descriptor: int
    listing: "Iterator[os.DirEntry[str]]"
    prefix: str
    device: int


class _Packer:
    def __init__(self, owner: Owner, left_out: Container[str] = ()) -> None:
        self._owner = owner
        self._left_out = left_out
        self._names: dict[tuple[int, int], str] = {}
        self._stack: list[_Frame] = []

    def top(self, descriptor: int, name: str) -> Iterator[bytes]:
        yield from self._entry(descriptor, name or ".")
        yield from self._below()

    def content(self, descriptor: int) -> Iterator[bytes]:
        self._descend(descriptor, "", os.fstat(descriptor).st_dev)
        yield from self._below()

    def _below(self) -> Iterator[bytes]:
        try:
            while self._stack:
                yield from self._step()
        finally:
            for frame in self._stack:
                _close(frame)

    def _step(self) -> Iterator[bytes]:
        """The next entry of the innermost directory."""
        frame = self._stack[-1]
        found = next(frame.listing, None)
        if found is None:
            _close(self._stack.pop())
            return
        if f"{frame.prefix}{found.name}" in self._left_out:
            return
        try:
            descriptor = os.open(found.name, _PATH, dir_fd=frame.descriptor)
        except FileNotFoundError:
            return  # removed meanwhile
        try:
            yield from self._entry(descriptor, f"{frame.prefix}{found.name}", frame.device)
        finally:
            os.close(descriptor)

    def _entry(self, descriptor: int, name: str, device: int | None = None) -> Iterator[bytes]:
        status = os.fstat(descriptor)
        if stat.S_ISSOCK(status.st_mode):
            return  # as tar and Docker: a socket has no content
        info = self._info(status, name)
        if stat.S_ISLNK(status.st_mode):
            info.linkname = os.readlink("", dir_fd=descriptor)
        if stat.S_ISREG(status.st_mode):
            yield from self._file(descriptor, status, info)
            return
        if stat.S_ISDIR(status.st_mode):
            info.pax_headers = _xattrs(descriptor)
        yield _header(info)
        if stat.S_ISDIR(status.st_mode) and device in (None, status.st_dev):
            self._descend(descriptor, name, status.st_dev)

    def _descend(self, descriptor: int, name: str, device: int) -> None:
        if len(self._stack) >= ARCHIVE_DEPTH_MAX:
            raise Conflict(f"{quoted(name)} is deeper than {ARCHIVE_DEPTH_MAX} directories")
        opened = os.open(f"/proc/self/fd/{descriptor}", _DIRECTORY)
        try:
            listing = os.scandir(opened)
        except BaseException:
            os.close(opened)
            raise
        prefix = f"{name}/" if name else ""
        self._stack.append(_Frame(opened, listing, prefix, device))

    def _info(self, status: os.stat_result, name: str) -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type = _TYPES.get(stat.S_IFMT(status.st_mode), tarfile.REGTYPE)
        info.mode = stat.S_IMODE(status.st_mode)
        info.uid, info.gid = self._owner(status)
        info.mtime = int(status.st_mtime)
        if info.type in (tarfile.CHRTYPE, tarfile.BLKTYPE):
            info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
        return info

    def _file(
        self, descriptor: int, status: os.stat_result, info: tarfile.TarInfo
    ) -> Iterator[bytes]:
        if status.st_nlink > 1:
            key = status.st_dev, status.st_ino
            if (first := self._names.get(key)) is not None:
                info.type, info.linkname = tarfile.LNKTYPE, first
                yield _header(info)
                return
            if len(self._names) < ARCHIVE_LINKS_MAX:
                self._names[key] = info.name
        opened = os.open(f"/proc/self/fd/{descriptor}", _READ)
        try:
            info.pax_headers = _xattrs(opened)
            info.size = size = os.fstat(opened).st_size
            whole = ((0, size),)
            if size > status.st_blocks * 512 and (data := _extents(opened, size)) != whole:
                yield from _sparse(opened, info, data)
            else:
                yield _header(info)
                yield from _data(opened, info.name, whole)
                yield bytes(-size % _BLOCK)
        finally:
            os.close(opened)


_TYPES = {
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
}


def _close(frame: _Frame) -> None:
    frame.listing.close()  # type: ignore[attr-defined]  # of os.scandir
    os.close(frame.descriptor)


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, _ENCODING, _ERRORS)


def _xattrs(descriptor: int) -> dict[str, str]:
    """The extended attributes of a file that tar keeps: those of users, and file capabilities."""
    found: dict[str, str] = {}
    path = f"/proc/self/fd/{descriptor}"
    with suppress(OSError):  # the file system has none
        for name in os.listxattr(path):
            if name.startswith("user.") or name == _SECURITY:
                value = os.getxattr(path, name)
                found[XATTR + name] = value.decode(_ENCODING, _ERRORS)
    return found


def _extents(descriptor: int, size: int) -> tuple[Extent, ...]:
    """Where a file has data; one extent for all of it where the file system does not say. After
    ARCHIVE_EXTENTS_MAX the rest counts as data.
    """
    found: list[Extent] = []
    position = 0
    try:
        while position < size:
            try:
                start = os.lseek(descriptor, position, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:  # no data follows
                    raise
                break
            if len(found) + 1 >= ARCHIVE_EXTENTS_MAX:
                found.append((start, size - start))
                break
            position = min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
            if position > start:
                found.append((start, position - start))
    except OSError:
        return ((0, size),)
    return tuple(found)


def _sparse(descriptor: int, info: tarfile.TarInfo, data: tuple[Extent, ...]) -> Iterator[bytes]:
    """A file with holes, in GNU tar's PAX format 1.0: the map of its data comes first."""
    # GNU tar makes a file as long as the end of the last extent.
    shown = data if data and sum(data[-1]) == info.size else (*data, (info.size, 0))
    numbers = [len(shown), *(number for extent in shown for number in extent)]
    text = "".join(f"{number}\n" for number in numbers).encode()
    text += bytes(-len(text) % _BLOCK)
    size = sum(length for _, length in data)
    info.pax_headers = {
        **info.pax_headers,
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": info.name,
        "GNU.sparse.realsize": str(info.size),
    }
    name, info.size = info.name, len(text) + size
    info.name = f"GNUSparseFile.0/{name.rpartition('/')[2]}"
    yield _header(info)
    yield text
    yield from _data(descriptor, name, data)
    yield bytes(-size % _BLOCK)


def _data(descriptor: int, name: str, data: tuple[Extent, ...]) -> Iterator[bytes]:
    for offset, size in data:
        end = offset + size
        while offset < end:
            part = os.pread(descriptor, min(CHUNK, end - offset), offset)
            if not part:
                raise Conflict(f"file {quoted(name)} became shorter while it was copied")
            yield part
            offset += len(part)
