"""One caller's connection to the registry: each request is understood, allowed and then passed on.
SHELL.

The next request is read when the response to the one before is complete, so that each response is
known to be of its request. Bodies are copied as they arrive and held nowhere.
"""

import asyncio
import hmac
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple

from controller.registry import messages
from controller.registry.actions import Action, action_of
from controller.registry.messages import (
    HEAD_BYTES_MAX,
    Answer,
    Body,
    Framing,
    Malformed,
    Request,
    parse_answer,
    parse_request,
    refusal,
    request_head,
)
from pyswarm_core.errors import (
    Conflict,
    Exhausted,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    PyswarmError,
    Unavailable,
    causes,
)

COPY_BYTES = 128 * 1024
ROOM_BYTES = 16 * 1024 * 1024
"""Bytes of a body between two looks at the room that is left: bodies have no end of their own."""
LINGER_S = 2.0
"""How long the rest of a request is read after its refusal: a connection that is closed with unread
bytes is reset, and its caller may lose the response.
"""
_CHALLENGE = 'Basic realm="pyswarm"'
_DONE = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_STATUS: tuple[tuple[type[PyswarmError], int, str, str], ...] = (
    (PermissionDenied, 403, "Forbidden", "DENIED"),
    (NotFound, 404, "Not Found", "MANIFEST_UNKNOWN"),
    (Conflict, 409, "Conflict", "DENIED"),
    (InvalidArgument, 400, "Bad Request", "NAME_INVALID"),
    (Exhausted, 403, "Forbidden", "DENIED"),
    (Unavailable, 409, "Conflict", "UNAVAILABLE"),
)
"""Of 4xx: skopeo and buildah show nothing of the message of another status."""


class Ends(NamedTuple):
    """Both directions of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Rules(NamedTuple):
    """What a caller may do."""

    password: str
    writes: bool
    admit: Callable[[Action], Awaitable[bool]]
    """Raises PyswarmError for a write that is not allowed; False: it is done already."""
    written: Callable[[Action, int], None]
    """Called with a write and the status of its response."""
    renew: Callable[[], Awaitable[None]]
    """Called before each request of a caller that writes. Raises PyswarmError if it has to wait for
    too long.
    """
    touch: Callable[[], None]
    """Called when bytes of a request's body have come."""
    room: Callable[[int], Awaitable[None]]
    """Raises PyswarmError if there is no room for more than this many bytes that came."""


class Refused(Exception):
    """The response that ends a connection."""


Connect = Callable[[], Awaitable[Ends]]
"""A new connection to the registry. Raises Unavailable."""


async def serve(caller: Ends, connect: Connect, rules: Rules) -> None:
    """Serve the requests of one connection until its caller ends it."""
    registry: Ends | None = None
    try:
        while (request := await _next(caller, rules)) is not None:
            action = await _admitted(request, rules)
            if action is None:
                raise Refused(_DONE)
            if registry is None:
                registry = await connect()
            if await _exchange(caller, registry, request, action, rules):
                return
    except Refused as refused:
        await _end_with(caller, refused.args[0])
    except Malformed as error:
        await _end_with(caller, refusal(400, "Bad Request", "UNSUPPORTED", str(error)))
    except PyswarmError as error:
        await _end_with(caller, _refusal_of(error))
    except (ConnectionError, asyncio.IncompleteReadError):
        pass  # one side has gone, and the other one sees that
    finally:
        for ends in filter(None, (caller, registry)):
            ends.writer.close()


async def _next(caller: Ends, rules: Rules) -> Request | None:
    """The next request, with the password; None at the end. Raises Refused, Malformed."""
    raw = await _head(caller.reader)
    if raw is None:
        return None
    request = parse_request(raw)
    if not _shows(request, rules.password):
        text = "this port is for the command that opened it: its password is required"
        raise Refused(refusal(401, "Unauthorized", "UNAUTHORIZED", text, _CHALLENGE))
    return request


async def _admitted(request: Request, rules: Rules) -> Action | None:
    """What an allowed request does; None: it is done. Raises Refused, PyswarmError."""
    action = action_of(request.method, request.target)
    if action is None:
        text = (
            f"{request.method} {request.target.partition('?')[0]}: the registry does not serve it"
        )
        raise Refused(refusal(405, "Method Not Allowed", "UNSUPPORTED", text))
    if rules.writes:
        await rules.renew()
    if not action.writes:
        if request.body:
            raise Malformed(f"a {request.method} has no body")
        return action
    if not rules.writes:
        text = "this connection reads: pushing needs the role operator"
        raise Refused(refusal(405, "Method Not Allowed", "DENIED", text))
    return action if await rules.admit(action) else None


async def _exchange(
    caller: Ends, registry: Ends, request: Request, action: Action, rules: Rules
) -> bool:
    """Pass on one request and its response; return whether the connection ends with it."""
    registry.writer.write(request_head(request))
    try:
        async with asyncio.TaskGroup() as group:
            into = _Bounded(registry.writer, rules)
            sending = group.create_task(_send(caller.reader, into, request.body))
            answer = await _answered(registry.reader, caller.writer, request, action, rules)
            is_whole = sending.done()
            sending.cancel()
    except ExceptionGroup as errors:
        raise next(causes(errors)) from None
    if not is_whole:
        await _linger(caller)
    return not is_whole or answer.closes


async def _answered(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    request: Request,
    action: Action,
    rules: Rules,
) -> Answer:
    """The response, passed on."""
    raw = await _head(reader)
    if raw is None:
        raise Unavailable("the registry ended the connection: try again")
    answer = parse_answer(raw, request.method)
    if action.writes:
        rules.written(action, answer.status)
    writer.write(raw)
    await _copy(reader, writer, answer.body)
    return answer


class _Bounded:
    """The writer of a request's body, which ends when there is no room for more of it."""

    def __init__(self, writer: asyncio.StreamWriter, rules: Rules) -> None:
        self._writer = writer
        self._rules = rules
        self._came = 0

    def write(self, data: bytes) -> None:
        self._rules.touch()
        self._came += len(data)
        self._writer.write(data)

    async def drain(self) -> None:
        await self._writer.drain()
        if self._came >= ROOM_BYTES:
            came, self._came = self._came, 0
            await self._rules.room(came)


Writer = asyncio.StreamWriter | _Bounded


async def _send(reader: asyncio.StreamReader, writer: Writer, body: Body) -> None:
    """Copy a request's body. A registry that has answered before its end takes no more of it."""
    with suppress(ConnectionError):
        await _copy(reader, writer, body)


async def _copy(reader: asyncio.StreamReader, writer: Writer, body: Body) -> None:
    """Copy a body. Raises IncompleteReadError if it is cut off."""
    if body is Framing.CHUNKED:
        await _copy_chunks(reader, writer)
    elif body is Framing.UNTIL_CLOSE:
        while data := await reader.read(COPY_BYTES):
            writer.write(data)
            await writer.drain()
    else:
        await _copy_bytes(reader, writer, int(body))
    await writer.drain()


async def _copy_bytes(reader: asyncio.StreamReader, writer: Writer, left: int) -> None:
    while left:
        data = await reader.read(min(left, COPY_BYTES))
        if not data:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(data)
        writer.write(data)
        await writer.drain()


async def _copy_chunks(reader: asyncio.StreamReader, writer: Writer) -> None:
    while True:
        size = messages.chunk_size(await _line(reader))
        writer.write(b"%x\r\n" % size)
        await _copy_bytes(reader, writer, size)
        if await reader.readexactly(2) != b"\r\n":
            raise Malformed("a chunk is longer than its size, or has trailers")
        writer.write(b"\r\n")
        if not size:
            return


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n")
    except asyncio.LimitOverrunError:
        raise Malformed("the size of a chunk is no number") from None


async def _head(reader: asyncio.StreamReader) -> bytes | None:
    """A head, with the empty line that ends it; None at the end of the connection."""
    first = await reader.read(1)
    if not first:
        return None
    if not first.isupper():  # such as TLS, whose client waits for an answer
        raise Malformed("this is no HTTP/1.1")
    try:
        return first + await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise Malformed(f"a head has more than {HEAD_BYTES_MAX} bytes") from None


def _shows(request: Request, password: str) -> bool:
    """Whether the request has the password."""
    scheme, _, encoded = request.header("authorization").partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        shown = b64decode(encoded.strip(), validate=True).partition(b":")[2]
    except (Base64Error, ValueError):
        return False
    return hmac.compare_digest(shown, password.encode())


def _refusal_of(error: PyswarmError) -> bytes:
    for kind, status, reason, code in _STATUS:
        if isinstance(error, kind):
            return refusal(status, reason, code, str(error))
    return refusal(409, "Conflict", "UNKNOWN", str(error))


async def _end_with(caller: Ends, response: bytes) -> None:
    with suppress(ConnectionError):
        caller.writer.write(response)
        await caller.writer.drain()
        await _linger(caller)


async def _linger(caller: Ends) -> None:
    """Read what the caller still sends, until it ends the connection or LINGER_S have passed."""
    with suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(LINGER_S):
            while await caller.reader.read(COPY_BYTES):
                pass
