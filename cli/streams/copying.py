"""Archives as byte streams: out of a container or volume to a writer, or from a reader into one.
SHELL.
"""

import asyncio

from cli.calls.connection import Connection
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
    READ_VOLUME,
    SAVE_IMAGE,
    WRITE_VOLUME,
    CopyInRequest,
    CopyOutRequest,
    ExportRequest,
    Operation,
    ReadVolumeRequest,
    SaveImageRequest,
    WriteVolumeRequest,
)

Out = CopyOutRequest | ExportRequest | ReadVolumeRequest | SaveImageRequest
"""Requests of archives. Of a volume with a path."""
Into = CopyInRequest | WriteVolumeRequest
_OUT: dict[type[Out], Operation] = {
    CopyOutRequest: COPY_OUT,
    ExportRequest: EXPORT,
    ReadVolumeRequest: READ_VOLUME,
    SaveImageRequest: SAVE_IMAGE,
}


async def receive(connection: Connection, request: Out, write: Write) -> None:
    """Write the archive that the request names. Raises Broken if it is cut off."""
    operation = _OUT[type(request)]

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

    await conversing(connection, operation, request, converse)


async def send(connection: Connection, request: Into, read: Read) -> None:
    """Send an archive; returns once it is unpacked. Raises Broken if nobody knows whether it is."""
    is_volume = isinstance(request, WriteVolumeRequest)
    operation, channel = (WRITE_VOLUME, STDOUT) if is_volume else (COPY_IN, STDIN)

    async def converse(call: Call) -> None:
        duplex = Duplex(call.send, STREAM_WINDOW, (channel,))
        async with asyncio.TaskGroup() as group:
            pump = group.create_task(duplex.pump(channel, read))
            await _until_exit(call, duplex)
            pump.cancel()

    await conversing(connection, operation, request, converse)


async def _until_exit(call: Call, duplex: Duplex) -> None:
    while True:
        frame = await call.receive()
        if not duplex.take(frame) and isinstance(frame, Exit):
            if error := error_in(frame):
                raise error
            return
