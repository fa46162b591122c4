"""Builds on this host as byte streams: the archive of the context in, what buildah prints out.
SHELL.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from agent.images.base import ImageError, ImageNotFound
from agent.images.building.buildah import CONTEXT, BuildFailed, Builds
from agent.runtime.base import RuntimeFailed
from agent.streams.base import Link
from agent.streams.copying import listen, served
from agent.streams.pipes import Reader, Writer
from agent.streams.programs import Errors
from agent.volumes import tar
from agent.volumes.tar import Child
from pyswarm_core.aio.archives.limits import COPY_IDLE_S
from pyswarm_core.aio.streams.duplex import Duplex
from pyswarm_core.docker.units import human_size
from pyswarm_core.errors import Conflict, InvalidArgument, NotFound, Unavailable
from pyswarm_core.streams.frames import STDIN, STDOUT, Exit, Started
from pyswarm_core.streams.limits import BUILD_CONTEXT_BYTES, STREAM_WINDOW
from pyswarm_core.streams.requests import BUILD_FAILED, BuildImageRequest

_PIPE_BYTES = 256 * 1024
_FULL = "No space left on device"
_PRUNE = "to remove what is unused: pyswarm system prune --all"


async def serve_build(builds: Builds, request: BuildImageRequest, link: Link) -> None:
    """Build until it has ended; the message of the exit is the image's id. The end of the stream
    ends the build.
    """
    await served(link, lambda: _build(builds, request, link))


async def _build(builds: Builds, request: BuildImageRequest, link: Link) -> Exit:
    duplex = Duplex(link.send, STREAM_WINDOW, (STDIN, STDOUT), frame_bytes=link.frame_bytes)
    async with builds.place() as place, asyncio.TaskGroup() as group:
        listening = group.create_task(listen(link, duplex))
        await link.send(Started())
        await _receive(duplex, place)
        ended = await _run(builds, place, request, duplex)
        listening.cancel()
    return ended


async def _run(builds: Builds, place: Path, request: BuildImageRequest, duplex: Duplex) -> Exit:
    async with _output(duplex) as output:
        try:
            return Exit(message=await builds.run(place, request, output))
        except BuildFailed:
            return Exit(BUILD_FAILED)
        except ImageNotFound as error:
            raise NotFound(str(error)) from error
        except ImageError as error:
            raise Unavailable(str(error)) from error


@asynccontextmanager
async def _output(duplex: Duplex) -> AsyncIterator[int]:
    """A descriptor for output, which has been sent when the block is left without an error."""
    own, lent = os.pipe()
    os.set_blocking(own, False)
    with suppress(OSError):  # more than a user may have
        fcntl.fcntl(lent, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(duplex.pump(STDOUT, Reader(own)))
            try:
                yield lent
            finally:
                os.close(lent)
    finally:
        os.close(own)


# The context


async def _receive(duplex: Duplex, place: Path) -> None:
    """Unpack the archive of the context. Raises InvalidArgument, Conflict and Unavailable."""
    scratch = place / "jail"
    scratch.mkdir()
    unpacking = tar.running(tar.UNPACK, place / CONTEXT, scratch, writes=True)
    try:
        async with unpacking as child:
            await _unpack(duplex, child)
    except RuntimeFailed as error:
        raise Unavailable(str(error)) from error


async def _unpack(duplex: Duplex, child: Child) -> None:
    errors = Errors(child)
    async with asyncio.TaskGroup() as group:
        saying = group.create_task(errors.said.wait())
        reading = group.create_task(errors.run())
        arriving = group.create_task(_arrive(duplex, child))
        ending = group.create_task(child.wait())
        await asyncio.wait((saying, arriving, ending), return_when=asyncio.FIRST_COMPLETED)
        code = 0
        if arriving.done():
            child.close_data()
            code = await ending
            await reading
        for task in (saying, reading, arriving, ending):
            task.cancel()
    if errors.line or code:
        reason = errors.line or f"tar ended with the code {code}"
        more = f": {_PRUNE}" if _FULL in reason else ""
        raise Conflict(f"the context cannot be unpacked on the node: {reason}{more}")


async def _arrive(duplex: Duplex, child: Child) -> None:
    """Pass on all of the archive."""
    write, size = Writer(child.data), 0
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(COPY_IDLE_S) as idle:

            async def take(data: bytes) -> None:
                nonlocal size
                size += len(data)
                if size > BUILD_CONTEXT_BYTES:
                    limit = human_size(BUILD_CONTEXT_BYTES)
                    raise InvalidArgument(
                        f"PATH: the context has more than {limit}: name in .dockerignore what the"
                        " image does not need"
                    )
                await write(data)
                idle.reschedule(loop.time() + COPY_IDLE_S)

            await duplex.drain(STDIN, take)
    except TimeoutError:
        raise Unavailable(f"nothing was sent for {COPY_IDLE_S:g} s") from None
