"""The files of volumes as byte streams: an archive in one direction, then the exit. SHELL.

The archive of a whole volume goes through `tar`, and ends with its digest: what was cut off on the
way never becomes a copy. That of a move goes directly to the other agent if there is a connection
(`direct/`), with everything else in the stream. Paths in a volume are copied as those in
containers.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from agent.files.copying import Copies
from agent.runtime.base import RuntimeFailed
from agent.streams.base import Link
from agent.streams.copying import receive_path, send_path, served
from agent.streams.direct import pipes
from agent.streams.direct.connection import Connection
from agent.streams.direct.direct import Arrival, Direct, accept
from agent.streams.pipes import Reader, Writer
from agent.streams.programs import Errors
from agent.volumes import tar
from agent.volumes.files import VolumeFiles
from agent.volumes.tar import Child
from pyswarm_core.aio.archives.limits import COPY_IDLE_S
from pyswarm_core.aio.streams.duplex import Duplex
from pyswarm_core.docker.units import human_size
from pyswarm_core.errors import Conflict, InvalidArgument, PyswarmError, Unavailable, reason_of
from pyswarm_core.streams.frames import STDOUT, Copied, Dial, Digest, Exit, Size, Started
from pyswarm_core.streams.limits import VOLUME_WINDOW
from pyswarm_core.streams.requests import ReadVolumeRequest, VolumeRequest, WriteVolumeRequest

_ERROR_BYTES = 4096
_TELL_S = 1.0
"""Between two reports of what has arrived directly."""
_END_BYTES = 1024
"""Zeros with which every archive ends."""
_SYNC_BYTES = 32 * 1024 * 1024
"""So much of an archive is cached before the disk begins to write it: a gigabyte at the end would
take as long as the copy, and hold up other programs that write to that disk.
"""
_SYNC_LOOK_S = 0.1
_NAMED = 3
_FULL = "No space left on device"
_NO_ARCHIVE = (
    "does not look like a tar archive",
    "Unexpected EOF in archive",
    "Skipping to next header",
    "Malformed",
    "Archive contains",
    "Archive is compressed",
    "memory exhausted",
)
"""In what tar says of archives that are none."""


class Host(NamedTuple):
    """What serves archives on this host."""

    files: VolumeFiles
    copies: Copies
    direct: Direct


async def serve_volume(host: Host, request: VolumeRequest, link: Link) -> None:
    """Serve one archive until it has ended. The exit says what failed."""
    if request.path:
        await served(link, lambda: _path(host.files, host.copies, request, link))
    elif isinstance(request, ReadVolumeRequest):
        await served(link, lambda: _read(host, request, link))
    else:
        await served(link, lambda: _write(host, request, link))


async def _path(
    files: VolumeFiles, copies: Copies, request: VolumeRequest, link: Link
) -> Exit | None:
    async with files.directory(request.ref, request.volume, request.size) as directory:
        if isinstance(request, WriteVolumeRequest):
            with files.writing(request.ref, request.volume):
                rootfs = await files.rootfs(directory, request.volume)
                await receive_path(copies, rootfs, request, link, STDOUT)
        else:
            rootfs = await files.rootfs(directory, request.volume)
            await send_path(copies.out(rootfs, request.path, follow=request.follow), link)
    return None


# Reading


async def _read(host: Host, request: ReadVolumeRequest, link: Link) -> Exit | None:
    files = host.files
    async with AsyncExitStack() as stack:
        if request.still:
            await stack.enter_async_context(files.still(request.ref, request.volume))
        opening = files.directory(request.ref, request.volume, request.size)
        directory = await stack.enter_async_context(opening)
        return await _read_from(directory, host, request, link)


async def _read_from(directory: Path, host: Host, request: ReadVolumeRequest, link: Link) -> Exit:
    duplex = Duplex(link.send, VOLUME_WINDOW, (STDOUT,), frame_bytes=link.frame_bytes)
    files, dial = host.files, asyncio.get_running_loop().create_future()
    async with AsyncExitStack() as stack:
        packing = await _begun(stack, tar.running(tar.PACK, directory, files.scratch))
        measuring = await _begun(stack, tar.running(tar.MEASURE, directory, files.scratch))
        await link.send(Started(notice=_notice(request.volume, files.users(request.ref))))
        async with asyncio.TaskGroup() as group:
            others = [
                group.create_task(_listen(link, duplex, dial)),
                group.create_task(_measure(measuring, link)),
            ]
            to = await host.direct.dialled(await dial) if request.direct else None
            packed = _packed(packing, duplex) if to is None else _sent(packing, host.direct, to)
            notice = await _pack(packing, packed, duplex, link, request)
            for task in others:
                task.cancel()
    return Exit(message=notice)


def _notice(name: str, users: list[str]) -> str:
    if not users:
        return ""
    more = f" and {len(users) - _NAMED} others" if len(users) > _NAMED else ""
    return (
        f"volume {name} is mounted by {', '.join(users[:_NAMED])}{more}: files that change"
        " meanwhile may not fit together; --stop holds them"
    )


async def _measure(child: Child, link: Link) -> None:
    """Send about how much there is, once that is known."""
    said = await Reader(child.data)(_ERROR_BYTES)
    number = said.split(b"\t")[0]
    if number.isdigit():
        await link.send(Size(int(number)))


async def _listen(link: Link, duplex: Duplex, dial: "asyncio.Future[Dial]") -> None:
    while True:
        frame = await link.receive()
        if not isinstance(frame, Dial):
            duplex.take(frame)
        elif not dial.done():
            dial.set_result(frame)


async def _packed(child: Child, duplex: Duplex) -> Digest:
    """Send the archive on the channel."""
    digest, size, read = sha256(), 0, Reader(child.data)

    async def take(most: int) -> bytes:
        nonlocal size
        data = await read(most)
        digest.update(data)
        size += len(data)
        return data

    await duplex.copy(STDOUT, take)
    return Digest(digest.digest(), size)


async def _sent(child: Child, direct: Direct, to: Connection) -> Digest:
    """Send the archive directly."""
    try:
        return Digest(b"", await direct.run(to, partial(pipes.send_all, to, child.data)))
    except OSError as error:
        raise _broke(error) from error


def _broke(error: OSError) -> Unavailable:
    return Unavailable(f"the connection between the nodes broke: {reason_of(error)}")


async def _pack(
    child: Child,
    packed: Coroutine[None, None, Digest],
    duplex: Duplex,
    link: Link,
    request: ReadVolumeRequest,
) -> str:
    """Send the archive and its digest; return what the user has to know."""
    errors = Errors(child)
    async with asyncio.TaskGroup() as group:
        group.create_task(errors.run())
        digest = await packed
        code = await child.wait()
    if code not in (0, tar.CHANGED) or (code and request.still):
        reason = errors.line or f"tar ended with the code {code}"
        raise Unavailable(f"volume {request.volume} cannot be read: {reason}")
    await link.send(digest)
    await duplex.finish(STDOUT)
    return f"files changed while they were read, the first: {errors.line}" if code else ""


# Writing


async def _write(host: Host, request: WriteVolumeRequest, link: Link) -> Exit | None:
    files = host.files
    async with files.receiving(request.ref, request.volume, request.size) as directory:
        async with AsyncExitStack() as stack:
            unpacking = tar.running(tar.UNPACK, directory, files.scratch, writes=True)
            child = await _begun(stack, unpacking)
            arrival = await stack.enter_async_context(host.direct.expected(request.source))
            await link.send(Started(port=arrival.port, key=arrival.key) if arrival else Started())
            receiving = _Receiving(child, link)
            if arrival is not None:
                receiving.expect(host.direct, arrival)
            async with asyncio.TaskGroup() as group:
                syncing = group.create_task(receiving.sync(partial(files.sync, directory)))
                await _unpack(child, receiving, request)
                syncing.cancel()
        await files.replace(request.ref, request.volume)
    return None


async def _unpack(child: Child, receiving: "_Receiving", request: WriteVolumeRequest) -> None:
    """Unpack what is received, until its end. Raises InvalidArgument for an archive that is none,
    Conflict for one that cannot be written, Unavailable if it was cut off.
    """
    errors = Errors(child)
    async with asyncio.TaskGroup() as group:
        saying = group.create_task(errors.said.wait())
        reading = group.create_task(errors.run())
        arriving = group.create_task(receiving.run())
        ending = group.create_task(child.wait())
        await asyncio.wait((saying, arriving, ending), return_when=asyncio.FIRST_COMPLETED)
        if saying.done() or (ending.done() and not arriving.done()):
            arriving.cancel()
        else:
            await arriving
            child.close_data()
        code = 0
        if not saying.done():
            code = await ending
            await reading
        for task in (saying, reading, ending):
            task.cancel()
    if errors.line or code:
        raise _refused(errors.line or f"tar ended with the code {code}", request)


def _refused(line: str, request: WriteVolumeRequest) -> PyswarmError:
    """The error for what tar says."""
    if any(text in line for text in _NO_ARCHIVE):
        return InvalidArgument(f"the archive is damaged, or is no tar archive: {line}")
    full = f": {_FULL}" if "Wrote only" in line else ""
    if request.size and _FULL in line + full:
        return Conflict(
            f"the archive does not fit into volume {request.volume}, which has the size"
            f" {human_size(request.size)}, a part of it for ext4 itself: create a larger volume and"
            f" restore into that ({line}{full})"
        )
    return Conflict(f"the archive cannot be unpacked: {line}{full}")


class _Receiving:
    """An archive on its way from a stream, or from another agent, to tar."""

    def __init__(self, child: Child, link: Link) -> None:
        self._child = child
        self._link = link
        self._direct: tuple[Direct, Arrival] | None = None
        self._duplex = Duplex(link.send, VOLUME_WINDOW, (STDOUT,))
        self._write = Writer(child.data)
        self._digest = sha256()
        self._size = 0
        self._waits = True
        """Whether the next bytes are its sender's turn."""
        self._end = b""
        self._told: Digest | None = None

    def expect(self, direct: Direct, arrival: Arrival) -> None:
        """The archive may arrive directly."""
        self._direct = direct, arrival

    @property
    def _is_direct(self) -> bool:
        """Whether it arrives so, and not in the stream."""
        if self._direct is None:
            return False
        connection = self._direct[1].connection
        return connection.done() and not connection.cancelled()

    async def sync(self, sync: Callable[[], Awaitable[None]]) -> None:
        """Have the disk write what arrives as it arrives, until cancelled."""
        synced = 0
        while True:
            await asyncio.sleep(_SYNC_LOOK_S)
            if (size := self._size) >= synced + _SYNC_BYTES:
                synced = size
                await sync()

    async def run(self) -> None:
        """Pass on all of it. Raises what is wrong with it."""
        async with asyncio.TaskGroup() as group:
            others = [group.create_task(self._listen()), group.create_task(self._expect())]
            receiving = group.create_task(self._receive())
            await self._duplex.drain(STDOUT, self._take)
            if self._is_direct:
                await receiving
            for task in (*others, receiving):
                task.cancel()
        self._check()

    async def _take(self, data: bytes) -> None:
        if self._is_direct:
            raise Unavailable("the source gave up a connection that the destination accepted")
        self._digest.update(data)
        self._count(data)
        await self._write(data)
        self._waits = True

    async def _receive(self) -> None:
        """Receive it from the other agent, once that has a connection."""
        if self._direct is None:
            return
        direct, arrival = self._direct
        connection = await arrival.connection
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(self._tell())
            try:
                await direct.run(connection, partial(self._receive_all, connection))
            except BrokenPipeError:  # tar has ended, and says why
                await asyncio.get_running_loop().create_future()
            except OSError as error:
                raise _broke(error) from error
            telling.cancel()

    def _receive_all(self, connection: Connection) -> None:
        """In a thread."""

        def take(data: memoryview) -> None:
            self._count(data)
            pipes.write_all(connection, self._child.data, data)
            self._waits = True

        accept(connection)
        pipes.receive_all(connection, take)

    def _count(self, data: bytes | memoryview) -> None:
        self._size += len(data)
        self._end = (self._end + bytes(data[-_END_BYTES:]))[-_END_BYTES:]
        self._waits = False

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(_TELL_S)
            await self._link.send(Copied(self._size))

    async def _listen(self) -> None:
        while True:
            frame = await self._link.receive()
            if isinstance(frame, Digest):
                self._told = frame
            else:
                self._duplex.take(frame)

    async def _expect(self) -> None:
        """Raise Unavailable once nothing was sent for COPY_IDLE_S."""
        while True:
            before = self._size
            await asyncio.sleep(COPY_IDLE_S)
            if self._waits and self._size == before:
                raise Unavailable(f"nothing was sent for {COPY_IDLE_S:g} s")

    def _check(self) -> None:
        if self._told is None:
            raise Unavailable("the archive was cut off on the way")
        digest = b"" if self._is_direct else self._digest.digest()
        if self._told != Digest(digest, self._size):
            raise Unavailable(
                f"the archive was damaged on the way: {self._size} bytes arrived of"
                f" {self._told.size}, or they differ"
            )
        if not self._size:
            raise InvalidArgument("the archive is empty")
        if self._end != bytes(_END_BYTES):
            raise InvalidArgument(
                "the archive is cut off, or is no tar archive: its end is missing"
            )


# Both


async def _begun(stack: AsyncExitStack, program: AbstractAsyncContextManager[Child]) -> Child:
    try:
        return await stack.enter_async_context(program)
    except RuntimeFailed as error:
        raise Unavailable(str(error)) from error
