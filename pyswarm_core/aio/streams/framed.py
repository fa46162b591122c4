"""A bidirectional gRPC call of which single reads and writes may be cancelled. SHELL.

grpc.aio cancels the whole call when a read or a write of it is cancelled. Here one task reads, and
a write that its caller does not wait for any more is still completed.
"""

import asyncio
from typing import Any

import grpc

ENDED = (grpc.RpcError, asyncio.InvalidStateError)
"""What reading and writing raise once the call has ended."""


class Framed:
    """The messages of one call. One of them waits for a reader; there is no other queue."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._arrived: asyncio.Queue[Any] = asyncio.Queue(1)
        self._end: Any = None
        self._turn = asyncio.Lock()

    async def read(self) -> Any:
        """The next message; None at the end. Raises one of ENDED."""
        if self._end is None:
            found = await self._arrived.get()
            if isinstance(found, _Message):
                return found.content
            self._end = found
        if isinstance(self._end, Exception):
            raise self._end
        return None

    async def write(self, message: Any) -> None:
        """Send a message; several callers may do so at once. Raises one of ENDED."""
        await asyncio.shield(self._write(message))

    async def _write(self, message: Any) -> None:
        async with self._turn:
            await self._call.write(message)

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
    def __init__(self, content: Any) -> None:
        self.content = content


_END = object()
