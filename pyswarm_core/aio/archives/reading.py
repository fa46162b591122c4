"""Reads a tar stream entry by entry, with bounded memory. SHELL over `tarfile`.

`tarfile` parses the headers (ustar, GNU, PAX, sparse files of all formats). This reader adds what
it lacks for archives that nobody trusts: headers of bounded size, no memory of former entries, an
archive that is cut off or damaged is an error, and holes of sparse files are kept.
"""

import tarfile
from collections.abc import Callable, Iterator
from typing import Any

from pyswarm_core.aio.archives.entries import Refused, refused
from pyswarm_core.aio.archives.limits import (
    ARCHIVE_BYTES_MAX,
    ARCHIVE_ENTRIES_MAX,
    ARCHIVE_FILE_MAX,
    ARCHIVE_HEADER_MAX,
)
from pyswarm_core.aio.archives.paxheaders import Globals, records_of
from pyswarm_core.errors import quoted

XATTR = "SCHILY.xattr."
"""Prefix of PAX records with extended attributes, as GNU tar and Docker write them."""
_CHUNK = 256 * 1024

Extent = tuple[int, int]
"""Offset and size of data in a file."""


class Source:
    """The bytes of an archive, in order. `receive` returns the next ones; empty at the end."""

    def __init__(self, receive: Callable[[], bytes]) -> None:
        self._receive = receive
        self._buffer = memoryview(b"")
        self._position = 0
        self._header_end = 0

    def allow_header(self) -> None:
        """What is read next is a header: of bounded size."""
        self._header_end = self._position + ARCHIVE_HEADER_MAX

    def tell(self) -> int:
        """How many bytes were read."""
        return self._position

    def seek(self, position: int) -> None:
        """Skip bytes up to the position, which is never behind."""
        while self._position < position:
            if not self.take(position - self._position):
                raise Refused("the archive is cut off")

    def take(self, size: int) -> memoryview:
        """At most `size` bytes, as many as arrived together; empty at the end."""
        if not self._buffer:
            self._buffer = memoryview(self._receive())
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        self._position += len(taken)
        return taken

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes of a header; fewer at the end of the archive."""
        if self._position + size > self._header_end:
            raise Refused(
                f"the archive is refused: a header is larger than {ARCHIVE_HEADER_MAX} bytes"
            )
        parts = []
        while size and (part := self.take(size)):
            parts.append(bytes(part))
            size -= len(part)
        return b"".join(parts)

    def unread(self, data: bytes) -> None:
        """Have these bytes, which were read last, read again."""
        self._buffer = memoryview(data + bytes(self._buffer))
        self._position -= len(data)

    def drain(self) -> None:
        """Read what follows the archive's end."""
        while self.take(_CHUNK):
            pass


class _Entry(tarfile.TarInfo):
    """An entry whose PAX headers are valid, which its base does not require."""

    def _proc_pax(self, reader: "Reader") -> tarfile.TarInfo:
        reader.check_pax(self)
        found: tarfile.TarInfo = super()._proc_pax(reader)  # type: ignore[misc]  # has no stub
        return found


class Reader(tarfile.TarFile):
    """The entries of an archive, one at a time. Use `entries`, not the methods of the base."""

    tarinfo = _Entry

    def __init__(self, source: Source) -> None:
        self._source = source
        self._opened = False
        self._globals = Globals()
        super().__init__(
            fileobj=source,  # type: ignore[arg-type]  # tell, seek and read are all that is used
            mode="r",
            encoding="utf-8",
            errors="surrogateescape",
        )
        self._opened = True

    def check_pax(self, info: tarfile.TarInfo) -> None:
        """Raise Refused for a PAX header, of which the source has the records next."""
        header = self._source.read(max(info.size, 0))
        if len(header) < info.size:
            raise Refused("the archive is cut off")
        count = records_of(info.name, header)
        if info.type == tarfile.XGLTYPE:
            self._globals.add(info.name, count, len(header))
        self._source.unread(header)

    def next(self) -> tarfile.TarInfo | None:
        """The next entry; None at the end of the archive. Raises Refused for a damaged one."""
        if not self._opened:  # the base reads the first entry when it is made
            return None
        if self._source.tell() > self.offset:
            raise Refused("the archive is damaged: a map of data exceeds its file")
        self._source.seek(self.offset)
        self._source.allow_header()
        try:
            info = self.tarinfo.fromtarfile(self)
        except tarfile.HeaderError as error:
            _require_end(error, is_empty=not self._source.tell())
            return None
        except Refused:
            raise
        except (tarfile.TarError, ValueError, OverflowError, RecursionError, MemoryError) as error:
            raise Refused(f"the archive is damaged: {error}") from None
        defaults = sum(len(key) + len(value) for key, value in self.pax_headers.items())
        if info.size < 0 or defaults > ARCHIVE_HEADER_MAX:
            raise refused(info.name, "has a header that is not valid")
        return info


def _require_end(error: tarfile.HeaderError, *, is_empty: bool) -> None:
    """Raise Refused unless the error means a block of zeros, the end of every archive."""
    kind = type(error).__name__
    if kind == "EOFHeaderError":
        return
    if kind in ("EmptyHeaderError", "TruncatedHeaderError"):
        raise Refused("the archive is empty" if is_empty else "the archive is cut off") from None
    raise Refused(f"the archive is damaged: {error}") from None


def entries(source: Source) -> Iterator[tarfile.TarInfo]:
    """The entries. The data of each is read by `data_of` before the next one, or skipped.

    Raises Refused for too many, too large or damaged ones.
    """
    reader: Any = Reader(source)
    count = size = 0
    while (info := reader.next()) is not None:
        count += 1
        size += sum(length for _, length in extents(info)) if info.isreg() else 0
        if count > ARCHIVE_ENTRIES_MAX:
            raise refused(info.name, f"exceeds the limit of {ARCHIVE_ENTRIES_MAX} entries")
        if info.size > ARCHIVE_FILE_MAX:
            raise refused(info.name, f"is larger than {ARCHIVE_FILE_MAX} bytes")
        if size > ARCHIVE_BYTES_MAX:
            raise refused(info.name, f"exceeds the limit of {ARCHIVE_BYTES_MAX} bytes of files")
        yield info


def extents(info: tarfile.TarInfo) -> tuple[Extent, ...]:
    """Where a file has data, in order. Raises Refused for a map that is not valid."""
    sparse = getattr(info, "sparse", None)
    if sparse is None:
        return ((0, info.size),) if info.size else ()
    position = 0
    for offset, size in sparse:
        if offset < position or size < 0 or offset + size > info.size:
            raise refused(info.name, "has a map of its data that is not valid")
        position = offset + size
    return tuple((offset, size) for offset, size in sparse if size)


def data_of(source: Source, info: tarfile.TarInfo) -> Iterator[tuple[int, memoryview]]:
    """The data of a file, as offsets and bytes. Raises Refused if the archive is cut off."""
    source.seek(info.offset_data)
    for offset, size in extents(info):
        position, end = offset, offset + size
        while position < end:
            part = source.take(min(end - position, _CHUNK))
            if not part:
                raise Refused(f"the archive is cut off in {quoted(info.name)}")
            yield position, part
            position += len(part)


def xattrs_of(info: tarfile.TarInfo) -> dict[str, bytes]:
    """The extended attributes of an entry."""
    return {
        name.removeprefix(XATTR): value.encode("utf-8", "surrogateescape")
        for name, value in info.pax_headers.items()
        if name.startswith(XATTR)
    }
