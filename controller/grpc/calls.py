"""What every call has in common: reading requests, answering errors, and no leaks. SHELL.

One interceptor converts errors to gRPC statuses by the table of `pyswarm_core/aio/status.py`. An
unexpected error is logged under a short id; the caller gets the id, never the traceback. gRPC would
answer a message that it cannot decode with UNKNOWN and log a traceback, so decoders here return an
`Undecodable` instead of raising.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
import msgspec
from google.protobuf.message import Message

from controller.grpc.streams import passing
from controller.identity.policy import CONTROL
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.aio.status import code_of
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.docker.units import human_size
from pyswarm_core.errors import InvalidArgument, PyswarmError
from pyswarm_core.ids import IdSource, short
from pyswarm_core.limits import REQUEST_BYTES_MAX, TUNNEL_FRAME_BYTES
from pyswarm_core.payloads.limits import PAYLOAD_REQUEST_BYTES_MAX
from pyswarm_core.stacks.limits import STACK_REQUEST_BYTES_MAX

STREAMS_OF_AGENTS = frozenset({"/pyswarm.v1.Dispatcher/Session", "/pyswarm.v1.Dispatcher/Tunnel"})
DETAILS_MAX = 2_000
"""Characters of an error; gRPC carries them in a header of at most 8 KiB, three bytes for some."""

S = TypeVar("S", bound=msgspec.Struct)
M = TypeVar("M", bound=Message)
Context = grpc.aio.ServicerContext[Any, Any]
Write = Callable[[Any], Awaitable[None]]
"""Sends one message of a stream; waits while the reader is slow."""

_log = EventLog("controller.api")

LOG_PERIOD_S = 10.0
"""One line per period about calls that fail in the same way, however many a client makes."""


class Undecodable(msgspec.Struct, frozen=True):
    """Replaces a message that is too large, or not of the method's type."""

    error: InvalidArgument
    """For the caller."""


def read(cls: type[S], message: Message) -> S:
    """The struct of the message. Raises InvalidArgument for an unknown word of an enum."""
    try:
        return from_proto(cls, message)
    except ValueError as error:
        raise InvalidArgument(str(error)) from None


def received(message: object, cls: type[M]) -> M | None:
    """The result of a read from a stream: the message, or None at the stream's end.

    Raises InvalidArgument for a message that cannot be decoded.
    """
    if isinstance(message, Undecodable):
        raise message.error
    return message if isinstance(message, cls) else None


def in_turn(write: Write) -> Write:
    """The same for several writers: gRPC accepts one message at a time, else the call fails."""
    turn = asyncio.Lock()

    async def write_in_turn(message: Any) -> None:
        async with turn:
            await write(message)

    return write_in_turn


def sent(context: Context, message: type[Message]) -> Callable[[msgspec.Struct], Awaitable[None]]:
    """Sends views as messages of this type, one at a time."""
    write = in_turn(context.write)

    async def send(view: msgspec.Struct) -> None:
        await write(to_proto(view, message()))

    return send


class ErrorsToStatus(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # no generic at run time
    """Ends every failed call with a status that tells its caller what to do."""

    def __init__(self, ids: IdSource) -> None:
        self._ids = ids

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler's behaviour and its decoder."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        make, behaviour = handler_kind(handler)
        method = handler_call_details.method
        return make(
            self._guarded(behaviour, method),
            request_deserializer=_decoder(
                passing.decoder(method, handler.request_deserializer), _bytes_max(method)
            ),
            response_serializer=passing.encoder(handler.response_serializer),
        )

    def _guarded(self, behaviour: Callable[[Any, Context], Awaitable[Any]], method: str) -> Any:
        async def call(request: Any, context: Context) -> Any:
            try:
                if isinstance(request, Undecodable):
                    raise request.error
                return await behaviour(request, context)
            except BaseException as raised:
                expected = isinstance(raised, Exception)
                if expected:
                    self._fail(raised, method, context)
                _unlink(raised)
                if not expected:
                    raise

        return call

    def _fail(self, raised: BaseException, method: str, context: Context) -> None:
        """Set the status of the call. `context.abort` would raise an error that refers to this
        call's frames, which refer to the error.
        """
        error = cause_of(raised)
        if isinstance(error, grpc.aio.InternalError):
            return  # from writing to a caller that went away: nobody receives a status
        if not isinstance(error, PyswarmError):
            error = self._unexpected(method)
        if isinstance(error, InvalidArgument):
            _log.info("call.invalid", every_s=LOG_PERIOD_S, method=method, error=error)
        context.set_code(code_of(error))
        context.set_details(str(error)[:DETAILS_MAX])

    def _unexpected(self, method: str) -> PyswarmError:
        (identifier,) = self._ids.draw(1)
        _log.error(
            "call.failed", trace=True, every_s=LOG_PERIOD_S, id=short(identifier), method=method
        )
        return PyswarmError(
            f"internal error {short(identifier)}: the controller's log has the details"
        )


def handler_kind(
    handler: Any,
) -> tuple[Callable[..., Any], Callable[[Any, Context], Awaitable[Any]]]:
    """The function that creates a handler of the same kind, and the behaviour of this one."""
    match handler.request_streaming, handler.response_streaming:
        case False, False:
            return grpc.unary_unary_rpc_method_handler, handler.unary_unary
        case False, True:
            return grpc.unary_stream_rpc_method_handler, handler.unary_stream
        case True, False:
            return grpc.stream_unary_rpc_method_handler, handler.stream_unary
        case _:
            return grpc.stream_stream_rpc_method_handler, handler.stream_stream


_WITH_DATA = frozenset(
    f"{CONTROL}{name}" for name in ("CreateSecret", "UpdateSecret", "CreateConfig", "UpdateConfig")
)


def _bytes_max(method: str) -> int:
    if method in STREAMS_OF_AGENTS:
        return TUNNEL_FRAME_BYTES
    if method == f"{CONTROL}ApplyStack":
        return STACK_REQUEST_BYTES_MAX
    return PAYLOAD_REQUEST_BYTES_MAX if method in _WITH_DATA else REQUEST_BYTES_MAX


def _decoder(decode: Callable[[bytes], object], bytes_max: int) -> Callable[[bytes], object]:
    def decode_or_say(data: bytes) -> object:
        if len(data) > bytes_max:
            return Undecodable(
                InvalidArgument(
                    f"message of {human_size(len(data))} is too large: "
                    f"expected at most {human_size(bytes_max)}"
                )
            )
        try:
            return decode(data)
        except Exception as error:  # protobuf names no class for what its parser raises
            reason = str(error) or type(error).__name__
            return Undecodable(
                InvalidArgument(
                    f"message of {len(data)} bytes cannot be decoded ({reason}): "
                    "expected the type that proto/ names for this method"
                )
            )

    return decode_or_say


def _unlink(raised: BaseException) -> None:
    """Remove from an error, and from its causes, the references to frames and other errors.

    A traceback refers to frames, and the frame of `TaskGroup.__aexit__` (or of any code that keeps
    the error in a variable) refers to the error, as does a group that it was part of. Such a cycle
    keeps the objects of the call until the garbage collector runs on all objects; a leader does not
    run it.
    """
    left, seen = [raised], set[int]()
    while left:
        error = left.pop()
        if id(error) in seen:
            continue
        seen.add(id(error))
        left += [e for e in (error.__context__, error.__cause__) if e is not None]
        if isinstance(error, BaseExceptionGroup):
            left += error.exceptions
        error.__traceback__ = error.__context__ = error.__cause__ = None


def cause_of(raised: BaseException) -> BaseException:
    """Of a group of errors the first PyswarmError, otherwise the first."""
    if not isinstance(raised, BaseExceptionGroup):
        return raised
    causes = [cause_of(inner) for inner in raised.exceptions]
    return next((cause for cause in causes if isinstance(cause, PyswarmError)), causes[0])
