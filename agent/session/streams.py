"""Byte streams in tunnels: the frames of `agent/streams/` as those of a Tunnel call. SHELL."""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType

from agent.streams.base import Link
from agent.streams.serving import Streams
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.aio.status import name_of
from pyswarm_core.aio.streams.framed import ENDED, Framed
from pyswarm_core.api.v1 import dispatcher_pb2, dispatcher_pb2_grpc
from pyswarm_core.codec import from_proto
from pyswarm_core.errors import PyswarmError, Unavailable, causes
from pyswarm_core.streams.frames import Frame, decode, encode
from pyswarm_core.streams.requests import OPERATIONS, OpeningRequest

_log = EventLog("agent.session.streams")

REQUESTS: Mapping[str, type[OpeningRequest]] = MappingProxyType(
    {one.field: one.request for one in OPERATIONS}
)
"""The kinds of OpenTunnel that open a byte stream."""

Tunnel = dispatcher_pb2.TunnelFrame


async def serve_stream(
    streams: Streams,
    stub: "dispatcher_pb2_grpc.DispatcherAsyncStub",
    request: dispatcher_pb2.OpenTunnel,
) -> None:
    """Dial back and serve the stream until it ends, or until the controller closes it."""
    kind = request.WhichOneof("kind") or ""
    call = stub.Tunnel()  # type: ignore[call-arg]  # the stubs know only iterators
    wire = Framed(call)
    try:
        async with asyncio.TaskGroup() as group:
            pulling = group.create_task(wire.pull())
            await wire.write(Tunnel(tunnel_id=request.tunnel_id))
            last = Tunnel(end=dispatcher_pb2.TunnelEnd())
            try:
                opened = from_proto(REQUESTS[kind], getattr(request, kind))
                await streams.serve(opened, _link(wire))
            except* Exception as errors:
                last = Tunnel(error=_error(request.tunnel_id, errors))
            await wire.write(last)
            while await wire.read() is not None:
                pass  # until the controller has everything
            pulling.cancel()
    except* ENDED as errors:
        _log.debug("stream.cut", tunnel=request.tunnel_id, error=next(causes(errors)))
    finally:
        call.cancel()


def _link(wire: Framed) -> Link:
    async def send(frame: Frame) -> None:
        try:
            await wire.write(Tunnel(stream=encode(frame)))
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
            if (frame := decode(message.stream)) is not None:
                return frame

    return Link(send, receive)


def _error(tunnel_id: str, errors: ExceptionGroup[Exception]) -> dispatcher_pb2.TunnelError:
    error = next(causes(errors))
    assert isinstance(error, Exception)
    text = str(error)
    if not isinstance(error, PyswarmError | OSError):
        _log.error("stream.internal_error", trace=True, tunnel=tunnel_id, error=error)
        text = f"internal error of the agent: {type(error).__name__}"
    return dispatcher_pb2.TunnelError(kind=name_of(error), message=text)
