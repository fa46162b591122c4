"""A bidirectional gRPC call of which single reads and writes may be cancelled. SHELL.

grpc.aio cancels the whole call when a read or a write of it is cancelled. Here one task reads, and
a write that its caller does not wait for any more is still completed.

A write of grpc.aio that fails because the server has ended the call sets the call's status to
INTERNAL: frames that wait to be read, and the server's own status, are lost. No public call writes
otherwise (one with an iterator of requests fails in the same way). So this writes to the call
beneath, `_cython_call`, and leaves the status to the reader.

Messages are bytes: the call has neither serializer nor deserializer.
"""

import asyncio
from typing import Any

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]

ENDED = (grpc.RpcError, asyncio.InvalidStateError)
"""What reading and writing raise once the call has ended."""


async def send(call: Any, message: bytes) -> None:
    """Send a serialized message on a call of grpc.aio and leave the call's status to whoever reads
    it. Raises one of ENDED.
    """
    await call.wait_for_connection()
    if call.done():
        raise asyncio.InvalidStateError("the call has ended")
    try:
        await call._cython_call.send_serialized_message(message)
    except cygrpc.InternalError as error:
        raise asyncio.InvalidStateError(str(error)) from None


def opened(connection: "grpc.aio.Channel", method: str) -> "Framed":
    """A new call of the method (`/SERVICE/METHOD`)."""
    stub: Any = connection.stream_stream
    return Framed(stub(method)())


class Framed:
    """The messages of one call. One of them waits for a reader; there is no other queue."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._arrived: asyncio.Queue[Any] = asyncio.Queue(1)
        self._end: Any = None
        self._turn = asyncio.Lock()

    async def read(self) -> bytes | None:
        """The next message; None at the end. Raises one of ENDED."""
        if self._end is None:
            found = await self._arrived.get()
            if isinstance(found, _Message):
                return found.content
            self._end = found
        if isinstance(self._end, Exception):
            raise self._end
        return None

    async def write(self, message: bytes) -> None:
        """Send a message; several callers may do so at once. Raises one of ENDED."""
        await asyncio.shield(self._write(message))

    async def _write(self, message: bytes) -> None:
        async with self._turn:
            await send(self._call, message)

    def cancel(self) -> None:
        """End the call."""
        self._call.cancel()

    async def pull(self) -> None:
        """Read until the call ends."""
        end: object = _END
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
                await self._arrived.put(_Message(message))
        except ENDED as error:
            end = error
        await self._arrived.put(end)


class _Message:
    def __init__(self, content: bytes) -> None:
        self.content = content


_END = object()
