"""A byte stream to the controller as frames. SHELL over gRPC.

Errors are those of `cli/calls/connection.py`, and Broken for a stream that ends before its Exit.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import TypeVar

import grpc

from cli.calls.connection import (
    LEADER_POLL_S,
    RESTART_TIMEOUT_S,
    STREAM_TIMEOUT_S,
    Connection,
)
from cli.context.credentials import credentials_of
from cli.errors import Broken
from pyswarm_core.aio.channel import STREAM_OPTIONS
from pyswarm_core.aio.credentials import channel
from pyswarm_core.aio.streams.framed import ENDED, Framed, opened
from pyswarm_core.api.v1 import streams_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.errors import NO_LEADER, PermissionDenied, PyswarmError, Unavailable, causes
from pyswarm_core.streams.frames import Frame
from pyswarm_core.streams.requests import Operation, RegistryRequest, StreamRequest
from pyswarm_core.streams.wire import packed, unpacked

T = TypeVar("T")
Request = StreamRequest | RegistryRequest
_SERVICE = "/pyswarm.v1.Control/"


class Call:
    """An open stream."""

    def __init__(self, client: Connection, wire: Framed) -> None:
        self._client = client
        self._wire = wire
        self.begun = False
        """Whether the other side has sent a frame."""

    async def send(self, frame: Frame) -> None:
        """Send a frame; several callers may call it at once. One for a stream that has ended is
        dropped: `receive` raises the reason.
        """
        with suppress(*ENDED):
            await self._wire.write(packed(frame))

    async def receive(self) -> Frame:
        """The next frame. Raises Broken for a stream that was cut, and the controller's error."""
        while True:
            try:
                message = await self._wire.read()
            except grpc.RpcError as error:
                raise self._error(error) from None
            if message is None:
                raise Broken("the stream ended without the program's exit code")
            self.begun = True
            if (frame := unpacked(message)) is not None:
                return frame

    def _error(self, error: grpc.RpcError) -> PyswarmError:
        found = self._client.error(error, STREAM_TIMEOUT_S)
        is_cut = self.begun and isinstance(found, Unavailable | PermissionDenied)
        return Broken(f"the stream broke: {found}") if is_cut else found


class Opened:
    """Opens a stream as a context manager, whose end cancels the stream."""

    def __init__(self, client: Connection, operation: Operation, request: Request) -> None:
        self._client = client
        self._operation = operation
        self._request = request
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Call:
        try:
            return await self._open()
        except BaseException:
            await self._stack.aclose()
            raise

    async def _open(self) -> Call:
        client, operation = self._client, self._operation
        credentials = credentials_of(client.context, RESTART_TIMEOUT_S)
        connection = channel(client.host, credentials, aio=True, options=STREAM_OPTIONS)
        await self._stack.enter_async_context(connection)
        first = streams_pb2.StreamFrame()
        to_proto(self._request, getattr(first, operation.field))
        wire = opened(connection, f"{_SERVICE}{operation.method}")
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._stack.callback(group.create_task(wire.pull()).cancel)
        with suppress(*ENDED):  # reading raises the reason
            await wire.write(first.SerializeToString())
        return Call(client, wire)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, traceback)


async def conversing(
    client: Connection,
    operation: Operation,
    request: Request,
    converse: Callable[[Call], Awaitable[T]],
) -> T:
    """Converse over a new stream; again while there is no leader. Raises the first error."""
    give_up_at = time.monotonic() + RESTART_TIMEOUT_S
    while True:
        begun: Call | None = None
        try:
            async with Opened(client, operation, request) as begun:
                return await converse(begun)
        except BaseExceptionGroup as errors:
            error = next(causes(errors))
            waits = isinstance(error, Unavailable) and NO_LEADER in str(error)
            is_new = begun is None or not begun.begun
            if not (waits and is_new and time.monotonic() < give_up_at):
                raise error from None
        await asyncio.sleep(LEADER_POLL_S)
