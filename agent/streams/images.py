"""Archives of this host's images as byte streams. SHELL."""

import asyncio
import fcntl
import os
from contextlib import suppress

from agent.images.base import ImageError, ImageNotFound, Images
from agent.streams.base import Link
from agent.streams.copying import listen, served
from agent.streams.pipes import Reader
from pyswarm_core.aio.streams.duplex import Duplex
from pyswarm_core.errors import NotFound, Unavailable
from pyswarm_core.streams.frames import STDOUT, Exit, Started
from pyswarm_core.streams.limits import STREAM_WINDOW_NODE
from pyswarm_core.streams.requests import SaveImageRequest

_PIPE_BYTES = 1024 * 1024


async def serve_save(images: Images, request: SaveImageRequest, link: Link) -> None:
    """Serve one archive until it has ended. The exit says what failed."""
    await served(link, lambda: _save(images, request, link))


async def _save(images: Images, request: SaveImageRequest, link: Link) -> Exit | None:
    own, lent = os.pipe()
    os.set_blocking(own, False)
    with suppress(OSError):  # more than a user may have
        fcntl.fcntl(own, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    duplex = Duplex(link.send, STREAM_WINDOW_NODE, (STDOUT,), frame_bytes=link.frame_bytes)
    try:
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(listen(link, duplex))
            group.create_task(_write(images, request, lent))
            lent = -1
            await link.send(Started())
            await duplex.pump(STDOUT, Reader(own))
            listening.cancel()
    finally:
        os.close(own)
        if lent >= 0:
            os.close(lent)
    return None


async def _write(images: Images, request: SaveImageRequest, descriptor: int) -> None:
    """Write the archive, and close the descriptor once it is complete: what is cut off by an error
    has no end.
    """
    try:
        await images.save(request.ref, request.names, descriptor)
    except ImageNotFound as error:
        raise NotFound(str(error)) from error
    except ImageError as error:
        raise Unavailable(str(error)) from error
    finally:
        os.close(descriptor)
