"""Which messages of byte streams are passed on as bytes."""

from types import SimpleNamespace
from typing import Any

import pytest

from controller.grpc.streams.calls import opening
from controller.grpc.streams.passing import TUNNEL, decoder, encoder
from controller.grpc.tunnels import GrpcTunnel
from controller.leader.exchanges import EXEC, IMAGE_LIST, LOGS, Exchange
from controller.leader.tunnels import Answers
from pyswarm_core.api.v1 import control_pb2_grpc, dispatcher_pb2, dispatcher_pb2_grpc, streams_pb2
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.streams.frames import Data, Exit, encode
from pyswarm_core.streams.requests import ALL_OPERATIONS
from pyswarm_core.streams.wire import packed, packed_in_tunnel

Tunnel = dispatcher_pb2.TunnelFrame
DATA = Data(1, b"\x1b[2J")


@pytest.mark.parametrize("operation", ALL_OPERATIONS, ids=lambda one: one.method)
def test_data_of_a_caller_stays_bytes(operation: Any) -> None:
    decode = decoder(f"/pyswarm.v1.Control/{operation.method}", streams_pb2.StreamFrame.FromString)
    assert decode(packed(DATA)) == packed(DATA)
    assert decode(packed(Exit(1, "why"))) == encode(Exit(1, "why"))
    with pytest.raises(InvalidArgument, match=f"is data: expected {operation.field}"):
        opening(operation.method, decode(packed(DATA)))


def test_data_of_an_agent_leaves_its_tunnel_as_bytes() -> None:
    decode = decoder(TUNNEL, Tunnel.FromString)
    assert decode(packed_in_tunnel(DATA)) == packed(DATA)
    assert decode(packed_in_tunnel(Exit(1, "why"))) == Tunnel(stream=encode(Exit(1, "why")))
    both = Tunnel(tunnel_id="t", stream=encode(DATA))
    assert decode(both.SerializeToString()) == both


def test_messages_of_other_methods_are_decoded() -> None:
    assert decoder("/pyswarm.v1.Control/GetTask", Tunnel.FromString)(b"") == Tunnel()


def test_the_methods_have_these_names() -> None:
    assert hasattr(dispatcher_pb2_grpc.DispatcherServicer, TUNNEL.rpartition("/")[2])
    assert all(hasattr(control_pb2_grpc.ControlServicer, one.method) for one in ALL_OPERATIONS)


def test_bytes_are_sent_as_they_are() -> None:
    encoded = encoder(streams_pb2.StreamFrame.SerializeToString)
    assert encoded(packed(DATA)) == packed(DATA) == encoded(encode(DATA))


def answers(exchange: Exchange[Any, Any], *frames: object) -> Answers[Any]:
    """What arrives through a tunnel of that exchange."""
    left = list(frames)

    async def read() -> object:
        return left.pop(0)

    context: Any = SimpleNamespace(read=read)
    return Answers(GrpcTunnel(context), exchange)


async def test_text_of_an_agent_is_made_printable_and_data_is_not() -> None:
    exit_ = Tunnel(stream=encode(Exit(1, "\x1b[2J")))
    through = answers(EXEC, packed(DATA), exit_)
    assert await through.read() == packed(DATA)
    last: Any = await through.read()
    assert "\x1b" not in last.exit.message


async def test_data_that_nobody_asked_for_is_an_empty_answer() -> None:
    report: Any = await answers(IMAGE_LIST, packed(DATA)).read()
    assert not report.images
    lines: Any = await answers(LOGS, packed(DATA)).read()
    assert not lines.texts


async def test_data_is_sent_to_an_agent_in_its_tunnel() -> None:
    sent: list[object] = []

    async def write(frame: object) -> None:
        sent.append(frame)

    context: Any = SimpleNamespace(write=write)
    tunnel = GrpcTunnel(context)
    await tunnel.write(packed(DATA))
    await tunnel.write(encode(Exit(3)))
    assert sent == [packed_in_tunnel(DATA), Tunnel(stream=encode(Exit(3)))]
