"""Copies of files as byte streams: an archive in one direction, then the exit. SHELL."""

import asyncio
from contextlib import aclosing

from agent.files.copying import Copies
from agent.runtime.base import Rootfs, Runtime, RuntimeFailed
from agent.streams.base import Link
from agent.tasks.record import Record
from pyswarm_core.aio.archives.entries import Source
from pyswarm_core.aio.archives.feeding import Feed
from pyswarm_core.aio.archives.pulling import Chunks
from pyswarm_core.aio.streams.duplex import Duplex
from pyswarm_core.errors import Conflict
from pyswarm_core.streams.frames import STDIN, STDOUT, Exit, Started
from pyswarm_core.streams.limits import STREAM_WINDOW_NODE
from pyswarm_core.streams.requests import CopyInRequest, CopyOutRequest, ExportRequest

CopyRequest = CopyOutRequest | CopyInRequest | ExportRequest


async def serve_copy(
    runtime: Runtime, copies: Copies, record: Record, request: CopyRequest, link: Link
) -> None:
    """Copy until the archive has ended. Raises Conflict if the container has no files here, and
    what `Copies` raises.
    """
    writable = isinstance(request, CopyInRequest)
    try:
        rootfs = await runtime.rootfs(record.task_id, record.layer, writable=writable)
    except RuntimeFailed as error:
        if record.ended and not record.layer:
            reason = "the files of a service's task end with it"
            raise Conflict(f"container {record.name} has ended: {reason}") from error
        raise Conflict(str(error)) from error
    if isinstance(request, CopyInRequest):
        await _copy_in(copies, rootfs, request, link)
    else:
        await _copy_out(copies, rootfs, request, link)
    await link.send(Exit())


async def _copy_out(
    copies: Copies, rootfs: Rootfs, request: CopyOutRequest | ExportRequest, link: Link
) -> None:
    duplex = Duplex(link.send, STREAM_WINDOW_NODE, (STDOUT,))
    if isinstance(request, CopyOutRequest):
        archive = copies.out(rootfs, request.path, follow=request.follow)
    else:
        archive = copies.export(rootfs)
    async with aclosing(archive), asyncio.TaskGroup() as group:
        listening = group.create_task(_listen(link, duplex))
        await link.send(Started())
        await duplex.pump(STDOUT, Chunks(archive))
        listening.cancel()


async def _copy_in(copies: Copies, rootfs: Rootfs, request: CopyInRequest, link: Link) -> None:
    duplex = Duplex(link.send, STREAM_WINDOW_NODE, (STDIN,))
    source = None if request.archive else Source(request.name, request.directory)
    feed = Feed()

    async def fill() -> None:
        await duplex.drain(STDIN, feed.write)
        await feed.end()

    async with asyncio.TaskGroup() as group:
        work = [group.create_task(_listen(link, duplex)), group.create_task(fill())]
        await copies.into(rootfs, request.path, source, feed)
        for task in work:
            task.cancel()


async def _listen(link: Link, duplex: Duplex) -> None:
    while True:
        duplex.take(await link.receive())
