"""How many requests and streams users may have under way: each caller, and all together. SHELL.

A caller is a host, or everybody on the controller's own socket. Past a limit a call is refused at
once with what the limit is and what to do; nothing waits, so nothing piles up.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import msgspec

from controller.servers.calls import Context
from pyswarm_core.errors import Unavailable
from pyswarm_core.limits import (
    REQUESTS_MAX,
    REQUESTS_PER_CALLER,
    STREAMS_MAX,
    STREAMS_PER_CALLER,
)

USERS_API = "/pyswarm.v1.Control/"
LASTING = frozenset({"WatchService", "Events", "Logs", "PullImage"})
"""Calls that may stay open; all others count as requests, lists too."""


class Limit(msgspec.Struct, frozen=True):
    """How many calls of one kind may be under way."""

    what: str
    per_caller: int
    total: int
    remedy: str


REQUESTS = Limit("requests", REQUESTS_PER_CALLER, REQUESTS_MAX, "wait for answers")
STREAMS = Limit(
    "streams (watches, events, logs, pulls)", STREAMS_PER_CALLER, STREAMS_MAX, "end some of them"
)


class Gate:
    """Counts the calls of one kind that are under way."""

    def __init__(self, limit: Limit) -> None:
        self.total = 0
        self._limit = limit
        self._of_caller: Counter[str] = Counter()

    @contextmanager
    def passing(self, caller: str) -> Iterator[None]:
        """While the block runs the call counts. Raises Unavailable where a limit is reached."""
        limit, own = self._limit, self._of_caller[caller]
        if own >= limit.per_caller:
            raise Unavailable(
                f"{caller} has {own} {limit.what} under way, which is the limit for one caller:"
                f" {limit.remedy}"
            )
        if self.total >= limit.total:
            raise Unavailable(
                f"{self.total} {limit.what} of all users are under way, which is the limit:"
                " try again later"
            )
        self.total += 1
        self._of_caller[caller] += 1
        try:
            yield
        finally:
            self.total -= 1
            self._of_caller[caller] -= 1
            if not self._of_caller[caller]:
                del self._of_caller[caller]


class Admission(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # no generic at run time
    """Counts the calls of users; those of agents are bounded by the number of nodes."""

    def __init__(self) -> None:
        self.requests = Gate(REQUESTS)
        self.streams = Gate(STREAMS)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a user's call."""
        handler = await continuation(handler_call_details)
        method: str = handler_call_details.method
        if handler is None or not method.startswith(USERS_API):
            return handler
        gate = self.streams if method.removeprefix(USERS_API) in LASTING else self.requests
        wrapped = grpc.unary_unary_rpc_method_handler
        behaviour = handler.unary_unary
        if handler.response_streaming:
            wrapped, behaviour = grpc.unary_stream_rpc_method_handler, handler.unary_stream
        return wrapped(
            _counted(gate, behaviour),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _counted(gate: Gate, behaviour: Callable[[Any, Context], Awaitable[Any]]) -> Any:
    async def call(request: Any, context: Context) -> Any:
        with gate.passing(caller_of(context.peer())):
            return await behaviour(request, context)

    return call


def caller_of(peer: str) -> str:
    """The host of gRPC's name for a peer: `ipv4:192.0.2.1:4711`, `ipv6:[::1]:4711`, `unix:…`."""
    kind, _, address = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return "the local socket"
    return address.rpartition(":")[0].strip("[]").replace("%5B", "").replace("%5D", "")
