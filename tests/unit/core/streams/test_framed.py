"""A call whose client writes when the server ends it: frames and status arrive all the same."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
import pytest

from pyswarm_core.aio.streams.framed import ENDED, Framed
from pyswarm_core.api.v1 import streams_pb2

CALLS, AT_ONCE = 200, 20
FRAMES = 20
REASON = "the program is gone"
METHOD = "/test.Streams/Open"
Frame = streams_pb2.StreamFrame


def frame(data: bytes) -> Frame:
    return Frame(data=streams_pb2.StreamData(channel=1, data=data))


TYPED = frame(b"typed").SerializeToString()


async def _serve(requests: AsyncIterator[Frame], context: Any) -> AsyncIterator[Frame]:
    """Frames, then the end, whatever the client still writes."""
    async for _ in requests:
        break
    for number in range(FRAMES):
        yield frame(bytes([number]))
    await context.abort(grpc.StatusCode.NOT_FOUND, REASON)


@pytest.fixture
async def channel() -> AsyncIterator[Any]:
    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(
        _serve, Frame.FromString, Frame.SerializeToString
    )
    service = grpc.method_handlers_generic_handler("test.Streams", {"Open": handler})
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened
    await server.stop(None)


async def _write(wire: Framed) -> None:
    """Write until the call has ended."""
    with suppress(*ENDED):
        while True:
            await wire.write(TYPED)


async def _read(wire: Framed, got: list[bytes]) -> None:
    while (message := await wire.read()) is not None:
        got.append(Frame.FromString(message).data.data)


async def _converse(channel: Any) -> tuple[list[bytes], grpc.StatusCode, str | None]:
    """What a busy writer gets: the frames, and the status."""
    call = channel.stream_stream(METHOD)()
    wire, got = Framed(call), list[bytes]()
    pulling = asyncio.create_task(wire.pull())
    writing = asyncio.create_task(_write(wire))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await _read(wire, got)
    await asyncio.gather(pulling, writing)
    return got, raised.value.code(), raised.value.details()


async def test_a_busy_writer_gets_all_frames_and_the_servers_own_status(channel: Any) -> None:
    expected = ([bytes([n]) for n in range(FRAMES)], grpc.StatusCode.NOT_FOUND, REASON)
    for _ in range(CALLS // AT_ONCE):
        for found in await asyncio.gather(*(_converse(channel) for _ in range(AT_ONCE))):
            assert found == expected


async def test_a_write_after_the_end_says_so(channel: Any) -> None:
    call = channel.stream_stream(METHOD)()
    wire, got = Framed(call), list[bytes]()
    pulling = asyncio.create_task(wire.pull())
    await wire.write(TYPED)
    with pytest.raises(grpc.aio.AioRpcError):
        await _read(wire, got)
    await pulling
    with pytest.raises(ENDED):
        await wire.write(TYPED)
