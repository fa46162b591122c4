"""Archives as byte streams: out of a container to a writer, or from a reader into a container.
SHELL.
"""

import asyncio

from cli.client import Client
from cli.errors import Broken
from cli.streams.call import Call, conversing
from pyswarm_core.aio.streams.duplex import Duplex, Read, Write
from pyswarm_core.streams.failures import error_in
from pyswarm_core.streams.frames import STDIN, STDOUT, Exit, HalfClose
from pyswarm_core.streams.limits import STREAM_WINDOW
from pyswarm_core.streams.requests import (
    COPY_IN,
    COPY_OUT,
    EXPORT,
    CopyInRequest,
    CopyOutRequest,
    ExportRequest,
)


async def receive(client: Client, request: CopyOutRequest | ExportRequest, write: Write) -> None:
    """Write the archive that the request names. Raises Broken if it is cut off."""
    operation = EXPORT if isinstance(request, ExportRequest) else COPY_OUT

    async def converse(call: Call) -> None:
        duplex = Duplex(call.send, STREAM_WINDOW, (STDOUT,))
        # Nothing is sent to a call that may be refused: the refusal would be lost.
        if isinstance(frame := await call.receive(), Exit):
            raise error_in(frame) or Broken("the archive ended before it began")
        async with asyncio.TaskGroup() as group:
            drain = group.create_task(duplex.drain(STDOUT, write))
            await _until_exit(call, duplex)
            duplex.take(HalfClose(STDOUT))
            await drain

    await conversing(client, operation, request, converse)


async def send(client: Client, request: CopyInRequest, read: Read) -> None:
    """Send an archive; returns once it is unpacked. Raises Broken if nobody knows whether it is."""

    async def converse(call: Call) -> None:
        duplex = Duplex(call.send, STREAM_WINDOW, (STDIN,))
        async with asyncio.TaskGroup() as group:
            pump = group.create_task(duplex.pump(STDIN, read))
            await _until_exit(call, duplex)
            pump.cancel()

    await conversing(client, COPY_IN, request, converse)


async def _until_exit(call: Call, duplex: Duplex) -> None:
    while True:
        frame = await call.receive()
        if not duplex.take(frame) and isinstance(frame, Exit):
            if error := error_in(frame):
                raise error
            return
