"""Limits on concurrent calls: of each caller, and of all together. SHELL.

A caller is a user or node that has identified itself, wherever it calls from; a host, of which
nobody has; or all users of the controller's own socket. A call beyond a limit is refused at
once with the limit and the remedy; nothing is queued. A call counts from its first byte: gRPC would
pass it on with its request, for which it would wait without a limit.

A request that has not arrived may hold TUNNEL_FRAME_BYTES of memory, whatever its method: few of a
caller are received at once, and the others wait, of which gRPC holds a window of 64 KiB.

Many silent hosts could hold all places of strangers. A new call then replaces the oldest call of
the caller that has most: an agent with a token needs its place for one message.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from ipaddress import IPv6Address, IPv6Network
from typing import Any
from urllib.parse import unquote

import grpc
import msgspec

from controller.grpc.callers import current_caller
from controller.grpc.calls import Context, Undecodable, handler_kind
from controller.grpc.streams.calls import opening
from controller.identity.caller import CallerKind
from controller.identity.policy import CONTROL, DISPATCHER, HEALTH
from controller.leader.tunnels import charged_to
from pyswarm_core.errors import Exhausted, InvalidArgument, quoted
from pyswarm_core.ids import short
from pyswarm_core.limits import (
    RECEIVED_MAX,
    RECEIVED_PER_CALLER,
    REQUESTS_MAX,
    REQUESTS_PER_CALLER,
    STRANGERS_MAX,
    STRANGERS_PER_CALLER,
    STREAMS_MAX,
    STREAMS_PER_CALLER,
)
from pyswarm_core.streams.requests import ALL_OPERATIONS

LASTING = frozenset(
    (
        *"WatchService Events ListAudit Logs Stats PullImage WaitContainer".split(),
        *(one.method for one in ALL_OPERATIONS),
    )
)
"""Calls that may stay open; all others count as requests, lists too."""
OF_HOSTS = frozenset(
    f"{DISPATCHER}{name}" for name in ("Join", "RenewCertificate", "Leave", "FetchPayload")
)
"""Calls of hosts with one request; the dispatcher counts the streams of agents."""
REQUEST_TIMEOUT_S = 10.0
"""The time in which a caller has to send its request."""


class Limit(msgspec.Struct, frozen=True):
    """The limits on concurrent calls of one kind."""

    what: str
    per_caller: int
    total: int
    remedy: str
    yields: bool = False
    """Whether a new call replaces one of the caller that has most, instead of being refused."""


REQUESTS = Limit("requests", REQUESTS_PER_CALLER, REQUESTS_MAX, "wait for answers")
STREAMS = Limit(
    "streams (watches, events, logs, stats, commands)",
    STREAMS_PER_CALLER,
    STREAMS_MAX,
    "end some of them",
)
STRANGERS = Limit(
    "joins, sessions and tunnels without a valid token or tunnel id",
    STRANGERS_PER_CALLER,
    STRANGERS_MAX,
    "dial again later",
    yields=True,
)
JOINS = Limit(
    "joins and renewals with a valid token or proof",
    STRANGERS_PER_CALLER,
    STRANGERS_MAX,
    "join again when they are done",
)
PROBES = Limit(
    "health checks and watches",
    STRANGERS_PER_CALLER,
    STRANGERS_MAX,
    "end some of them",
    yields=True,
)
"""Of guests too: those of STREAMS are the users' alone."""
RECEIVED = Limit(
    "requests that have not arrived",
    RECEIVED_PER_CALLER,
    RECEIVED_MAX,
    "send a request with its call",
    yields=True,
)
RENEWALS = Limit(
    "renewals of certificates", STRANGERS_PER_CALLER, STRANGERS_MAX, "renew again later"
)
IPV6_PREFIX = 64
"""Bits of an IPv6 address that identify its owner: one link has a /64 (RFC 4291)."""


class Gate:
    """Counts the concurrent calls of one kind."""

    def __init__(self, limit: Limit) -> None:
        self.total = 0
        self._limit = limit
        self._of_caller: dict[str, dict[_Call, None]] = {}
        """Oldest first."""

    @contextmanager
    def passing(self, caller: str) -> Iterator[None]:
        """Count the call while the block runs. Raises Exhausted at a limit, and in the block if a
        new call replaces this one.
        """
        limit, own = self._limit, len(self._of_caller.get(caller, ()))
        if own >= limit.per_caller:
            raise Exhausted(
                f"{caller} has {own} {limit.what} in progress, which is the limit for one caller:"
                f" {limit.remedy}"
            )
        full = (
            f"{limit.total} {limit.what} of all callers are in progress, which is the limit:"
            " try again later"
        )
        if self.total >= limit.total and not (limit.yields and self._yield_to(own)):
            raise Exhausted(full)
        call = _Call(asyncio.current_task() if limit.yields else None)
        self.total += 1
        self._of_caller.setdefault(caller, {})[call] = None
        try:
            yield
        except asyncio.CancelledError:
            if call.task is None or not call.ended or call.task.uncancel():
                raise
            raise Exhausted(full) from None
        finally:
            if not call.ended:
                self._remove(caller, call)

    def _yield_to(self, own: int) -> bool:
        """End the oldest call of the caller that has most, if those are more than the new call's
        caller has; return whether there is a place now.
        """
        caller, calls = max(self._of_caller.items(), key=lambda item: len(item[1]))
        if len(calls) <= own:
            return False
        oldest = next(iter(calls))
        self._remove(caller, oldest)
        oldest.ended = True
        if oldest.task is not None:
            oldest.task.cancel()
        return True

    def _remove(self, caller: str, call: "_Call") -> None:
        self.total -= 1
        calls = self._of_caller[caller]
        del calls[call]
        if not calls:
            del self._of_caller[caller]


class _Call:
    """A call in progress, and the task that serves it."""

    def __init__(self, task: asyncio.Task[Any] | None) -> None:
        self.task = task
        self.ended = False
        """Whether a new call replaced it."""


class Receiving:
    """Bounds the requests that are received at once. Those of one caller wait for each other."""

    def __init__(self) -> None:
        self._gate = Gate(RECEIVED)
        self._lines: dict[str, _Line] = {}

    @asynccontextmanager
    async def place(self, caller: str) -> AsyncIterator[None]:
        """Receive a request in the block. Raises Exhausted in it if a new request replaces it."""
        line = self._lines.setdefault(caller, _Line())
        line.length += 1
        try:
            async with line.places:
                with self._gate.passing(caller):
                    yield
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[caller]


class _Line:
    """The requests of one caller that are received or wait for that."""

    def __init__(self) -> None:
        self.length = 0
        self.places = asyncio.Semaphore(RECEIVED.per_caller)


class Admission(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # no generic at run time
    """Counts the calls of users, and the joins of agents until their request has arrived. The
    dispatcher counts agents' streams by `strangers` until they have shown that they belong to the
    fleet; then there is one per node, or one that the leader requested.
    """

    def __init__(self) -> None:
        self.requests = Gate(REQUESTS)
        self.streams = Gate(STREAMS)
        self.strangers = Gate(STRANGERS)
        self.probes = Gate(PROBES)
        self.receiving = Receiving()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a call that counts."""
        handler = await continuation(handler_call_details)
        gate = self._gate(handler_call_details.method)
        if handler is None or gate is None:
            return handler
        behaviour = handler_kind(handler)[1]
        wrapped = grpc.stream_unary_rpc_method_handler
        if handler.response_streaming:
            wrapped = grpc.stream_stream_rpc_method_handler
        if handler.request_streaming:
            behaviour = _opened(handler_call_details.method, behaviour)
        return wrapped(
            self._counted(gate, behaviour, lasts=gate is not self.strangers),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _gate(self, method: str) -> Gate | None:
        if method.startswith(CONTROL):
            return self.streams if method.removeprefix(CONTROL) in LASTING else self.requests
        if method.startswith(HEALTH):
            return self.probes
        return self.strangers if method in OF_HOSTS else None

    def _counted(
        self, gate: Gate, behaviour: Callable[[Any, Context], Awaitable[Any]], *, lasts: bool
    ) -> Any:
        """A handler of streamed requests, which is called before the request has arrived. The call
        counts until it is answered or, unless it `lasts`, until its request has arrived.
        """

        async def call(_: object, context: Context) -> Any:
            caller = counted_as(context)
            charged_to.set(caller)
            with gate.passing(caller):
                request = await _request(context, self.receiving.place(caller))
                if lasts:
                    return await behaviour(request, context)
            return await behaviour(request, context)

        return call


def _opened(
    method: str, behaviour: Callable[[Any, Context], Awaitable[Any]]
) -> Callable[[Any, Context], Awaitable[Any]]:
    """A handler of the request in the first frame of a byte stream."""

    async def call(frame: Any, context: Context) -> Any:
        return await behaviour(opening(method, frame), context)

    return call


async def _request(context: Context, place: AbstractAsyncContextManager[None]) -> object:
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT_S), place:
            request = await context.read()
    except TimeoutError:
        raise InvalidArgument(f"no request within {REQUEST_TIMEOUT_S:g} s") from None
    if isinstance(request, Undecodable):
        raise request.error
    if request is grpc.aio.EOF:  # type: ignore[attr-defined]  # the stubs lack it
        raise InvalidArgument("the call ended without a request")
    return request


def counted_as(context: Context) -> str:
    """Whose limit the call counts against, for errors too: `user "ci"`, `192.0.2.1`."""
    caller = current_caller()
    if caller.kind is CallerKind.USER:
        return f"user {quoted(caller.name)}"
    if caller.kind is CallerKind.AGENT:
        return f"node {short(caller.id)}"
    return caller_of(context.peer())


def caller_of(peer: str) -> str:
    """The host in gRPC's name for a peer: `ipv4:192.0.2.1:4711`, `ipv6:[::1]:4711`, `unix:…`.

    A host with IPv6 has any number of addresses: the caller is their common prefix.
    """
    kind, _, address = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return "the local socket"
    host = unquote(address).rpartition(":")[0].strip("[]").partition("%")[0]
    if kind == "ipv4":
        return host
    try:
        ip = IPv6Address(host)
    except ValueError:
        return host
    return str(ip.ipv4_mapped or IPv6Network((int(ip), IPV6_PREFIX), strict=False))
