"""Byte streams in tunnels: the frames of `agent/streams/` as those of a Tunnel call. SHELL."""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import grpc

from agent.streams.base import Link
from agent.streams.serving import Streams
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.aio.status import name_of
from pyswarm_core.aio.streams.framed import ENDED, Framed, opened
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.codec import from_proto
from pyswarm_core.errors import PyswarmError, Unavailable, causes
from pyswarm_core.streams.frames import Frame
from pyswarm_core.streams.limits import STREAM_FRAME_BYTES_LEAST
from pyswarm_core.streams.requests import OPERATIONS
from pyswarm_core.streams.wire import out_of_tunnel, packed_in_tunnel, unpacked

_log = EventLog("agent.session.streams")

REQUESTS: Mapping[str, Any] = MappingProxyType({one.field: one.request for one in OPERATIONS})
"""The kinds of OpenTunnel that open a byte stream."""

TUNNEL = "/pyswarm.v1.Dispatcher/Tunnel"
Tunnel = dispatcher_pb2.TunnelFrame


async def serve_stream(
    streams: Streams, connection: grpc.aio.Channel, request: dispatcher_pb2.OpenTunnel
) -> None:
    """Dial back and serve the stream until it ends, or until the controller closes it."""
    kind = request.WhichOneof("kind") or ""
    wire = opened(connection, TUNNEL)
    try:
        async with asyncio.TaskGroup() as group:
            pulling = group.create_task(wire.pull())
            await wire.write(Tunnel(tunnel_id=request.tunnel_id).SerializeToString())
            last = Tunnel(end=dispatcher_pb2.TunnelEnd())
            try:
                asked = from_proto(REQUESTS[kind], getattr(request, kind))
                await streams.serve(asked, _link(wire, request.frame_bytes))
            except* Exception as errors:
                last = Tunnel(error=_error(request.tunnel_id, errors))
            await wire.write(last.SerializeToString())
            while await wire.read() is not None:
                pass  # until the controller has everything
            pulling.cancel()
    except* ENDED as errors:
        _log.debug("stream.cut", tunnel=request.tunnel_id, error=next(causes(errors)))
    finally:
        wire.cancel()


def _link(wire: Framed, frame_bytes: int) -> Link:
    async def send(frame: Frame) -> None:
        try:
            await wire.write(packed_in_tunnel(frame))
        except ENDED as error:
            raise Unavailable("the controller is gone") from error

    async def receive() -> Frame:
        while True:
            try:
                message = await wire.read()
            except ENDED as error:
                raise Unavailable("the controller is gone") from error
            if message is None:
                raise Unavailable("the caller is gone")
            raw = out_of_tunnel(message)
            if raw is not None and (frame := unpacked(raw)) is not None:
                return frame

    return Link(send, receive, frame_bytes or STREAM_FRAME_BYTES_LEAST)


def _error(tunnel_id: str, errors: ExceptionGroup[Exception]) -> dispatcher_pb2.TunnelError:
    error = next(causes(errors))
    assert isinstance(error, Exception)
    text = str(error)
    if not isinstance(error, PyswarmError | OSError):
        _log.error("stream.internal_error", trace=True, tunnel=tunnel_id, error=error)
        text = f"internal error of the agent: {type(error).__name__}"
    return dispatcher_pb2.TunnelError(kind=name_of(error), message=text)
