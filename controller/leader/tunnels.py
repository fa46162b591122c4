"""Streams that agents open at the leader's request, for logs, images, traces and byte streams.
SHELL.

`Tunnels.open` sends a tunnel id over the agent's session and waits until the agent dials back with
that id. A caller has a share of each limit, so that others always find a place.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from controller.leader.exchanges import Exchange
from pyswarm_core import errors
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.ids import IdSource, NodeId
from pyswarm_core.limits import TUNNELS_MAX
from pyswarm_core.streams.limits import STREAM_FRAMES_LEADER
from pyswarm_core.streams.shares import Share, share_of
from pyswarm_core.streams.windows import frame_bytes

R = TypeVar("R", bound=msgspec.Struct)
A = TypeVar("A")
OPERATIONS = tuple(
    field.name for field in dispatcher_pb2.OpenTunnel.DESCRIPTOR.oneofs_by_name["kind"].fields
)
"""What can be requested of an agent."""
DIAL_TIMEOUT_S = 5.0
"""The time in which an agent has to open the stream."""
TUNNELS_PER_CALLER = TUNNELS_MAX // 4
charged_to: ContextVar[str] = ContextVar("charged_to", default="this controller")
"""Whose limits the tunnels of the current call count against, for errors too: `user "ci"`."""


class Tunnel(Protocol):
    """One open stream to an agent."""

    async def read(
        self, timeout_s: float | None = None
    ) -> dispatcher_pb2.TunnelFrame | bytes | None:
        """The next frame, None at the end; a frame of data of a byte stream as bytes. Raises the
        error that the agent sent, Unavailable when it is gone or silent. Without `timeout_s` it
        waits while the connection exists.
        """
        ...

    async def write(self, frame: Any) -> None:
        """Send a frame of a byte stream. Raises Unavailable when the agent is gone."""
        ...

    def close(self) -> None:
        """End the agent's call."""
        ...


Ask = Callable[[NodeId, dispatcher_pb2.OpenTunnel], None]
"""Sends the message over the node's session; raises Unavailable if it has none."""


class Answers(Generic[A]):
    """The answers that arrive through a tunnel."""

    def __init__(self, tunnel: Tunnel, exchange: Exchange[R, A]) -> None:
        self._tunnel = tunnel
        self._answer = exchange.answer
        self._is_stream = exchange.is_stream

    async def read(self, timeout_s: float | None = None) -> A | None:
        """The next answer, None at the end; see `Tunnel.read`."""
        frame = await self._tunnel.read(timeout_s)
        if isinstance(frame, bytes) and not self._is_stream:
            frame = dispatcher_pb2.TunnelFrame()  # which nobody asked for
        return None if frame is None else self._answer(frame)

    async def write(self, frame: Any) -> None:
        """Send a frame of a byte stream; see `Tunnel.write`."""
        await self._tunnel.write(frame)


class _Places:
    """Counts tunnels, of each caller and of all, and refuses those beyond a limit."""

    def __init__(self) -> None:
        self._of_callers: Counter[object] = Counter()
        """By caller; by node and share; by caller, node and share."""

    @contextmanager
    def taken(self, caller: str, node_id: NodeId, share: Share, total: int) -> Iterator[None]:
        """Count a tunnel in the block; `total` are open already. Raises Exhausted."""
        counts, on_node = self._of_callers, (node_id, share)
        own, all_own = counts[caller, on_node], counts[caller]
        limit = "which is the limit for one caller"
        if own >= share.per_caller:
            raise errors.Exhausted(
                f"{caller} has {own} {share.what} on node {node_id} in progress, {limit}:"
                f" {share.remedy}"
            )
        if all_own >= TUNNELS_PER_CALLER:
            raise errors.Exhausted(f"{caller} has {all_own} streams to agents open, {limit}")
        if counts[on_node] >= share.per_node:
            raise errors.Exhausted(
                f"{share.per_node} {share.what} of all callers on node {node_id} are in progress,"
                " which is the limit: try again later"
            )
        if total >= TUNNELS_MAX:
            raise errors.Exhausted(
                f"{TUNNELS_MAX} streams to agents are open already, which is the limit"
            )
        keys = (caller, on_node, (caller, on_node))
        counts.update(keys)
        try:
            yield
        finally:
            counts.subtract(keys)
            for key in keys:
                if not counts[key]:
                    del counts[key]


class Tunnels:
    """The tunnels of one leadership."""

    def __init__(self, ids: IdSource, ask: Ask) -> None:
        self._ids = ids
        self._ask = ask
        self._awaited: dict[str, tuple[NodeId, asyncio.Future[Tunnel]]] = {}
        self._open: dict[Tunnel, NodeId] = {}
        self._places = _Places()
        self.operations = dict.fromkeys(OPERATIONS, 0)
        """How many are open, or awaited, by what was requested."""

    def __len__(self) -> int:
        return len(self._awaited) + len(self._open)

    @asynccontextmanager
    async def open(
        self, node_id: NodeId, exchange: Exchange[R, A], request: R
    ) -> AsyncIterator[Answers[A]]:
        """Have the node's agent open a tunnel for `request`.

        Raises Unavailable if the node has no session or does not answer within DIAL_TIMEOUT_S, and
        Exhausted at a limit. The tunnel is closed when the block is left.
        """
        share = share_of(exchange.field)
        with self._places.taken(charged_to.get(), node_id, share, len(self)):
            self.operations[exchange.field] += 1
            try:
                tunnel = await self._dialled(node_id, exchange, request)
                try:
                    yield Answers(tunnel, exchange)
                finally:
                    self._end(tunnel)
            finally:
                self.operations[exchange.field] -= 1

    async def _dialled(self, node_id: NodeId, exchange: Exchange[R, A], request: R) -> Tunnel:
        (tunnel_id,) = self._ids.draw(1)
        frames = frame_bytes(STREAM_FRAMES_LEADER, len(self) + 1)
        message = dispatcher_pb2.OpenTunnel(tunnel_id=tunnel_id, frame_bytes=frames)
        field = getattr(message, exchange.field)
        field.SetInParent()
        to_proto(request, field)
        awaited: asyncio.Future[Tunnel] = asyncio.get_running_loop().create_future()
        self._awaited[tunnel_id] = node_id, awaited
        try:
            self._ask(node_id, message)
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                return await awaited
        except BaseException as error:
            if _has_result(awaited):  # it arrived as the wait ended
                self._end(awaited.result())
            if not isinstance(error, TimeoutError):
                raise
            raise errors.Unavailable(
                f"node {node_id} did not answer within {DIAL_TIMEOUT_S:g} s"
            ) from None
        finally:
            del self._awaited[tunnel_id]

    def accept(self, tunnel_id: str, node_id: NodeId, tunnel: Tunnel) -> None:
        """The node's agent dialled back. Raises NotFound if no request waits for its tunnel."""
        asked, awaited = self._awaited.get(tunnel_id, (None, None))
        if awaited is None or asked != node_id or awaited.done():
            raise errors.NotFound("no request waits for this tunnel")
        self._open[tunnel] = node_id
        awaited.set_result(tunnel)

    def _end(self, tunnel: Tunnel) -> None:
        self._open.pop(tunnel, None)
        tunnel.close()

    def close_node(self, node_id: NodeId) -> None:
        """End the node's tunnels: it was removed, and its certificate is not valid any more."""
        for tunnel, owner in tuple(self._open.items()):
            if owner == node_id:
                tunnel.close()
        for asked, awaited in self._awaited.values():
            if asked == node_id and not awaited.done():
                awaited.set_exception(errors.Unavailable(f"node {node_id} was removed"))

    def close(self) -> None:
        """End every tunnel: leadership is lost."""
        for tunnel in tuple(self._open):
            tunnel.close()
        for _, awaited in self._awaited.values():
            if not awaited.done():
                awaited.set_exception(errors.Unavailable("this controller no longer leads"))


def _has_result(future: "asyncio.Future[Tunnel]") -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
