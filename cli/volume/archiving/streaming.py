"""Backups and restores as byte streams: an archive and its digest, then the exit. SHELL."""

import asyncio
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from hashlib import sha256
from typing import Protocol

from cli.client import Client
from cli.errors import Broken
from cli.streams.call import Call, conversing
from cli.volume.archiving.archives import Sink, Stdout, target
from cli.volume.archiving.progress import Progress
from pyswarm_core.aio.archives.pulling import Chunks, pulled
from pyswarm_core.aio.streams.duplex import Duplex
from pyswarm_core.streams.failures import error_in
from pyswarm_core.streams.frames import STDOUT, Digest, Exit, HalfClose, Size, Started
from pyswarm_core.streams.limits import STREAM_WINDOW
from pyswarm_core.streams.requests import (
    READ_VOLUME,
    WRITE_VOLUME,
    ReadVolumeRequest,
    WriteVolumeRequest,
)

Tell = Callable[[str], None]
"""Shows the user a notice."""


async def backup(
    client: Client, request: ReadVolumeRequest, path: str, progress: Progress, tell: Tell
) -> int:
    """Write the archive to FILE; returns its size. Raises Broken if it is cut off or damaged."""

    async def converse(call: Call) -> int:
        # Opened with each attempt: a stream is opened again while there is no leader.
        with target(path) as sink:
            reading = _Reading(call, sink, progress, tell)
            size = await reading.run()
            await sink.finish()
        return size

    return await conversing(client, READ_VOLUME, request, converse)


class _Reading:
    """One archive on its way to a file."""

    def __init__(self, call: Call, sink: Sink | Stdout, progress: Progress, tell: Tell) -> None:
        self._call = call
        self._sink = sink
        self._progress = progress
        self._tell = tell
        self._duplex = Duplex(call.send, STREAM_WINDOW, (STDOUT,))
        self._digest = sha256()
        self._size = 0
        self._told: Digest | None = None

    async def run(self) -> int:
        # Nothing is sent to a call that may be refused: the refusal would be lost.
        frame = await self._call.receive()
        if isinstance(frame, Exit):
            raise error_in(frame) or Broken("the archive ended before it began")
        if isinstance(frame, Started) and frame.notice:
            self._tell(frame.notice)
        async with asyncio.TaskGroup() as group:
            drain = group.create_task(self._duplex.drain(STDOUT, self._write))
            await self._listen()
            self._duplex.take(HalfClose(STDOUT))
            await drain
        if self._told != Digest(self._digest.digest(), self._size):
            raise Broken("the archive was damaged or cut off on the way: try again")
        return self._size

    async def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._size += len(data)
        await self._sink.write(data)
        self._progress.at(self._size)

    async def _listen(self) -> None:
        while True:
            frame = await self._call.receive()
            match frame:
                case Digest():
                    self._told = frame
                case Size(size):
                    self._progress.total = size
                case Exit(message=notice):
                    if error := error_in(frame):
                        raise error
                    if notice:
                        self._tell(notice)
                    return
                case _:
                    self._duplex.take(frame)


class Source(Protocol):
    """An archive. `size` is what is to be read; 0: not known."""

    size: int

    def chunks(self) -> Generator[bytes]:
        """The archive, without compression."""
        ...

    def close(self) -> None:
        """Close what it is read from."""
        ...


async def restore(
    client: Client, request: WriteVolumeRequest, source: Source, progress: Progress
) -> int:
    """Send the archive; returns its size once it is the volume. Raises InvalidArgument for
    an archive that is none, Broken if nobody knows whether it is.
    """
    threads = ThreadPoolExecutor(1, "restore")
    with closing(source):
        async with aclosing(pulled(threads, source.chunks())) as archive:
            chunks = Chunks(archive)
            digest = sha256()
            progress.total = source.size

            async def read(size: int) -> bytes:
                data = await chunks(size)
                digest.update(data)
                progress.at(chunks.count)
                return data

            async def converse(call: Call) -> None:
                duplex = Duplex(call.send, STREAM_WINDOW, (STDOUT,))

                async def pump() -> None:
                    await duplex.copy(STDOUT, read)
                    await call.send(Digest(digest.digest(), chunks.count))
                    await duplex.finish(STDOUT)

                async with asyncio.TaskGroup() as group:
                    pumping = group.create_task(pump())
                    await _until_exit(call, duplex)
                    pumping.cancel()

            await conversing(client, WRITE_VOLUME, request, converse)
    return chunks.count


async def _until_exit(call: Call, duplex: Duplex) -> None:
    while True:
        frame = await call.receive()
        if not duplex.take(frame) and isinstance(frame, Exit):
            if error := error_in(frame):
                raise error
            return
