"""Pushes of this host's images to the fleet's registry, over connections that the controller serves
on the stream. SHELL.

skopeo connects to a port of this host, which requires a password that is for this push alone.
"""

import asyncio
import socket

from agent.images.base import ImageError, ImageNotFound, Images
from agent.streams.base import Link
from agent.streams.copying import served
from pyswarm_core.aio.streams.accepting import accepting
from pyswarm_core.aio.streams.carrying import Carrier
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import NotFound, Unavailable
from pyswarm_core.registry.limits import CARRIED_FRAME_BYTES, CARRIED_WINDOW
from pyswarm_core.registry.names import repository_of
from pyswarm_core.streams.frames import Started
from pyswarm_core.streams.requests import PushImageRequest


async def serve_push(images: Images, request: PushImageRequest, link: Link) -> None:
    """Push until it has ended. The exit says what failed."""
    await served(link, lambda: _push(images, request, link))


async def _push(images: Images, request: PushImageRequest, link: Link) -> None:
    carrier = Carrier(link.send, CARRIED_WINDOW, CARRIED_FRAME_BYTES)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        name = parse_reference(request.name)
        to = f"127.0.0.1:{listener.getsockname()[1]}/{repository_of(name)}:{name.tag}"
        async with asyncio.TaskGroup() as group:
            started = asyncio.Event()
            listening = group.create_task(_listen(link, carrier, started))
            await started.wait()  # who pushes waits for a collection of garbage
            with accepting(listener, link.send, carrier, group):
                try:
                    await images.push(request.ref, to, request.password)
                except ImageNotFound as error:
                    raise NotFound(str(error)) from error
                except ImageError as error:
                    raise Unavailable(str(error)) from error
            listening.cancel()


async def _listen(link: Link, carrier: Carrier, started: asyncio.Event) -> None:
    while True:
        frame = await link.receive()
        if isinstance(frame, Started):
            started.set()
        else:
            carrier.take(frame)
