"""The local end of `pyswarm cp`: files of this machine, stdin or stdout. SHELL.

An archive that comes from a container is not trusted: it is unpacked beneath the destination or
refused, without owners unless requested, and never with set-user-ID bits or capabilities.
"""

import asyncio
import os
import stat
import sys
import tarfile
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from pathlib import Path

from cli.client import Client
from cli.container.files import decompression
from cli.streams import copying
from cli.streams.stdio import Output
from pyswarm_core.aio.archives.entries import (
    Existing,
    Landing,
    Source,
    asserts_directory,
    is_content,
    landing,
    top_name,
    trimmed,
)
from pyswarm_core.aio.archives.feeding import Feed, fed
from pyswarm_core.aio.archives.packing import CHUNK, owners_of, pack
from pyswarm_core.aio.archives.pulling import Chunks, pulled
from pyswarm_core.aio.archives.reading import Source as Archive
from pyswarm_core.aio.archives.unpacking import Rights, unpack
from pyswarm_core.errors import InvalidArgument, NotFound, quoted
from pyswarm_core.streams.requests import CopyInRequest, CopyOutRequest, ExportRequest

_PATH = os.O_PATH | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MODE = 0o777


class Arrival:
    """Where a copy out of a container lands. `source` is its path in the container."""

    def __init__(self, source: str, path: str, *, keep: bool) -> None:
        """Raises NotFound and InvalidArgument for a path to which nothing can be copied."""
        self._source = source
        self._path = path
        self._keep = keep
        if not Path(path).exists() and not Path(trimmed(path)).absolute().parent.is_dir():
            raise NotFound(f"no such directory: {quoted(str(Path(path).parent))}")

    def unpack(self, feed: Feed) -> None:
        """Unpack the archive, in a thread."""
        keep = self._keep
        rights = Rights(
            owner=lambda uid, gid: (uid, gid) if keep else None, mode=_MODE, attributes=False
        )
        unpack(Archive(feed.receive), self._arrive, rights)

    def _arrive(self, first: tarfile.TarInfo) -> tuple[int, Landing]:
        final = Path(self._path).resolve()
        existing = Existing(exists=final.exists(), is_directory=final.is_dir())
        shown = f"{final}/" if asserts_directory(self._path) and final != final.parent else final
        source = Source(top_name(self._source), first.isdir())
        found = landing(source, str(shown), existing)
        directory = final if found.inside else final.parent
        try:
            return os.open(directory, _DIRECTORY), found
        except FileNotFoundError:
            raise NotFound(f"no such directory: {quoted(str(directory))}") from None


class Departure:
    """What is copied into a container: a path, or an archive on stdin (`-`)."""

    def __init__(self, path: str, *, keep: bool, follow: bool) -> None:
        """Raises OSError for a path that does not exist."""
        self.is_archive = path == "-"
        self._keep = keep
        self._descriptor = -1
        self.name, self.is_directory = "", False
        if self.is_archive:
            return
        follows = follow or asserts_directory(path)
        self._descriptor = os.open(path, _PATH if follows else _PATH | os.O_NOFOLLOW)
        self.is_directory = _is_directory(self._descriptor)
        if asserts_directory(path) and not self.is_directory:
            raise InvalidArgument(f"{quoted(path)} is not a directory")
        self.name = "" if is_content(path) else _name(path)

    def close(self) -> None:
        """Close the path."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def request(self, container: str, path: str) -> CopyInRequest:
        """The request for a copy to that path."""
        return CopyInRequest(
            ref=container,
            path=path,
            name=self.name,
            directory=self.is_directory,
            archive=self.is_archive,
        )

    def archive(self) -> Generator[bytes]:
        """The archive, made or read in a thread. Raises InvalidArgument for what is none."""
        if self.is_archive:
            return _read()
        return pack(self._descriptor, self.name, owners_of if self._keep else lambda _: (0, 0))


def copy_out(
    client: Client, container: str, path: str, arrival: Arrival | None, follow: bool
) -> int:
    """Copy a path of a container; without an arrival its archive goes to stdout. Returns the size
    of the archive.
    """
    request = CopyOutRequest(ref=container, path=path, follow=follow)
    if arrival is None:
        return asyncio.run(to_descriptor(client, request, sys.stdout.fileno()))
    return asyncio.run(to_files(client, request, arrival))


def copy_in(client: Client, departure: Departure, container: str, path: str) -> int:
    """Copy into a container; returns the size of the archive."""
    return asyncio.run(from_files(client, departure.request(container, path), departure))


def export(client: Client, container: str, descriptor: int) -> int:
    """Write the archive of all files of a container; returns its size."""
    return asyncio.run(to_descriptor(client, ExportRequest(ref=container), descriptor))


async def to_descriptor(client: Client, request: copying.Out, descriptor: int) -> int:
    """Write an archive to a descriptor, in a running event loop; returns its size."""
    output, size = Output(descriptor), 0

    async def write(data: bytes) -> None:
        nonlocal size
        size += len(data)
        await output(data)

    await copying.receive(client, request, write)
    return size


async def to_files(client: Client, request: copying.Out, arrival: Arrival) -> int:
    """Unpack an archive, in a running event loop; returns its size."""
    feed, size = Feed(), 0
    threads = ThreadPoolExecutor(1)

    async def write(data: bytes) -> None:
        nonlocal size
        size += len(data)
        await feed.write(data)

    async def arrive() -> None:
        await copying.receive(client, request, write)
        await feed.end()

    try:
        async with asyncio.TaskGroup() as group:
            receiving = group.create_task(arrive())
            await fed(feed, threads, lambda: arrival.unpack(feed))
            receiving.cancel()
    except BaseExceptionGroup as errors:
        raise _first(errors) from None
    return size


async def from_files(client: Client, request: copying.Into, departure: Departure) -> int:
    """Send an archive, in a running event loop; returns its size."""
    threads = ThreadPoolExecutor(1)
    with closing(departure):
        async with aclosing(pulled(threads, departure.archive())) as archive:
            chunks = Chunks(archive)
            await copying.send(client, request, chunks)
    return chunks.count


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The reason: not that the archive was cut off because of it."""
    found = errors.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


def _read() -> Generator[bytes]:
    with os.fdopen(os.dup(sys.__stdin__.fileno() if sys.__stdin__ else 0), "rb") as stdin:
        archive = decompression.opened(stdin)
        while data := archive.read(CHUNK):
            yield data


def _name(path: str) -> str:
    """The last part of a path; of one that ends with `..` the directory's own name."""
    name = Path(path).name
    return Path(path).resolve().name if name in ("", "..") else name


def _is_directory(descriptor: int) -> bool:
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)
