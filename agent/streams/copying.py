"""Copies of files as byte streams: an archive in one direction, then the exit. SHELL."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress

from agent.files.copying import Copies
from agent.runtime.base import Rootfs, Runtime, RuntimeFailed
from agent.streams.base import Link
from agent.tasks.record import Record
from pyswarm_core.aio.archives.entries import Source
from pyswarm_core.aio.archives.feeding import Feed
from pyswarm_core.aio.archives.limits import COPY_IDLE_S
from pyswarm_core.aio.archives.pulling import Chunks
from pyswarm_core.aio.streams.duplex import Duplex
from pyswarm_core.errors import Conflict, PyswarmError, causes, reason_of
from pyswarm_core.streams.failures import exit_of
from pyswarm_core.streams.frames import STDIN, STDOUT, Exit, Started
from pyswarm_core.streams.limits import STREAM_WINDOW_NODE
from pyswarm_core.streams.requests import (
    CopyInRequest,
    CopyOutRequest,
    FileRequest,
    WriteVolumeRequest,
)

_READ_S = 5.0
"""How long a caller may take to read the exit of a copy that failed."""


async def serve_copy(
    runtime: Runtime, copies: Copies, record: Record, request: FileRequest, link: Link
) -> None:
    """Copy until the archive has ended. The exit says what failed."""
    await served(link, lambda: _copy(runtime, copies, record, request, link))


async def served(link: Link, copy: Callable[[], Awaitable[Exit | None]]) -> None:
    """Send the exit that a copy returns, by default that of success, or that of its error."""
    try:
        ended = await copy()
    except* (PyswarmError, OSError) as errors:
        error = next(causes(errors))
        if not isinstance(error, PyswarmError):
            error = Conflict(reason_of(error) if isinstance(error, OSError) else str(error))
        await link.send(exit_of(error))
        await _until_gone(link)
    else:
        await link.send(ended or Exit())


async def _until_gone(link: Link) -> None:
    """Wait for the caller, who reads the exit first."""
    with suppress(PyswarmError, TimeoutError):
        async with asyncio.timeout(_READ_S):
            while True:
                await link.receive()


async def _copy(
    runtime: Runtime, copies: Copies, record: Record, request: FileRequest, link: Link
) -> None:
    writable = isinstance(request, CopyInRequest)
    try:
        rootfs = await runtime.rootfs(record.task_id, record.layer, writable=writable)
    except RuntimeFailed as error:
        if record.ended and not record.layer:
            reason = "the files of a service's task end with it"
            raise Conflict(f"container {record.name} has ended: {reason}") from error
        raise Conflict(str(error)) from error
    match request:
        case CopyInRequest():
            await receive_path(copies, rootfs, request, link, STDIN)
        case CopyOutRequest():
            await send_path(copies.out(rootfs, request.path, follow=request.follow), link)
        case _:
            await send_path(copies.export(rootfs), link)


async def send_path(archive: AsyncGenerator[bytes], link: Link) -> None:
    """Send an archive."""
    duplex = Duplex(link.send, STREAM_WINDOW_NODE, (STDOUT,), frame_bytes=link.frame_bytes)
    async with aclosing(archive), asyncio.TaskGroup() as group:
        listening = group.create_task(listen(link, duplex))
        await link.send(Started())
        await duplex.pump(STDOUT, Chunks(archive))
        listening.cancel()


async def receive_path(
    copies: Copies,
    rootfs: Rootfs,
    request: CopyInRequest | WriteVolumeRequest,
    link: Link,
    channel: int,
) -> None:
    """Unpack the archive that arrives on the channel."""
    duplex = Duplex(link.send, STREAM_WINDOW_NODE, (channel,))
    source = None if request.archive else Source(request.name, request.directory)
    feed = Feed(COPY_IDLE_S)

    async def fill() -> None:
        await duplex.drain(channel, feed.write)
        await feed.end()

    async with asyncio.TaskGroup() as group:
        work = [group.create_task(listen(link, duplex)), group.create_task(fill())]
        await copies.into(rootfs, request.path, source, feed)
        for task in work:
            task.cancel()


async def listen(link: Link, duplex: Duplex) -> None:
    """Process what the caller sends."""
    while True:
        duplex.take(await link.receive())
