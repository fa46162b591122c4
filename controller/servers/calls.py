"""What every call of users has in common: requests read, errors answered, nothing leaked. SHELL.

One interceptor turns our errors into gRPC statuses by the table of `pyswarm_core/aio/status.py`.
What nobody expected is logged under a short id, and the user is told the id, never the traceback.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import grpc
import msgspec
from google.protobuf.message import Message

from pyswarm_core.aio.logs import EventLog
from pyswarm_core.aio.status import code_of
from pyswarm_core.codec import from_proto
from pyswarm_core.errors import InvalidArgument, PyswarmError
from pyswarm_core.ids import IdSource, short
from pyswarm_core.limits import SPEC_BYTES_MAX
from pyswarm_core.units import human_size

REQUEST_BYTES_MAX = 2 * SPEC_BYTES_MAX
DETAILS_MAX = 2_000
"""Characters of an error; gRPC carries them in a header of at most 8 KiB, three bytes for some."""

S = TypeVar("S", bound=msgspec.Struct)
Context = grpc.aio.ServicerContext[Any, Any]
Write = Callable[[Any], Awaitable[None]]
"""Sends one message of a stream; waits while the reader is slow."""

_log = EventLog("controller.api")


class _Sized(Protocol):
    def ByteSize(self) -> int: ...


def read(cls: type[S], message: Message) -> S:
    """The struct that the message describes. Raises InvalidArgument for a word that none knows."""
    try:
        return from_proto(cls, message)
    except ValueError as error:
        raise InvalidArgument(str(error)) from None


def in_turn(write: Write) -> Write:
    """The same for several writers: gRPC takes one message at a time, else the call fails."""
    turn = asyncio.Lock()

    async def write_in_turn(message: Any) -> None:
        async with turn:
            await write(message)

    return write_in_turn


def require_modest(request: _Sized) -> None:
    """Raise InvalidArgument for a request that is larger than any sensible one."""
    size = request.ByteSize()
    if size > REQUEST_BYTES_MAX:
        raise InvalidArgument(
            f"request of {human_size(size)} is too large: "
            f"want at most {human_size(REQUEST_BYTES_MAX)}"
        )


class ErrorsToStatus(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # no generic at run time
    """Ends every call that takes one request with a status that tells its caller what to do."""

    def __init__(self, ids: IdSource) -> None:
        self._ids = ids

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler. Streams from agents (bidirectional) look after themselves."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming:
            return handler
        guard = self._guarded
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                guard(handler.unary_stream),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            guard(handler.unary_unary),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _guarded(self, behaviour: Callable[[Any, Context], Awaitable[Any]]) -> Any:
        async def call(request: Any, context: Context) -> Any:
            try:
                require_modest(request)
                return await behaviour(request, context)
            except Exception as raised:
                error = _cause(raised)
                if isinstance(error, grpc.aio.AbortError):
                    raise
                if isinstance(error, PyswarmError):
                    await context.abort(code_of(error), str(error)[:DETAILS_MAX])
                await self._unexpected(context)

        return call

    async def _unexpected(self, context: Context) -> None:
        (identifier,) = self._ids.draw(1)
        _log.error("call.failed", trace=True, id=short(identifier))
        await context.abort(
            grpc.StatusCode.INTERNAL,
            f"internal error {short(identifier)}: the controller's log has the details",
        )


def _cause(raised: BaseException) -> BaseException:
    """Of a group of errors the first of ours, or else the first."""
    if not isinstance(raised, BaseExceptionGroup):
        return raised
    causes = [_cause(inner) for inner in raised.exceptions]
    return next((cause for cause in causes if isinstance(cause, PyswarmError)), causes[0])
