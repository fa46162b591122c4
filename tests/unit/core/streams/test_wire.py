"""Frames as bytes: the same as protobuf writes and reads."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from pyswarm_core.api.v1 import dispatcher_pb2, streams_pb2
from pyswarm_core.streams.frames import Data, Frame, Window, encode
from pyswarm_core.streams.wire import (
    in_tunnel,
    is_data,
    out_of_tunnel,
    packed,
    packed_in_tunnel,
    unpacked,
)
from tests.unit.core.streams.test_frames import EVERY

Tunnel = dispatcher_pb2.TunnelFrame
CHANNELS = st.integers(0, 2**32 - 1)
SIZES = st.sampled_from([0, 1, 127, 128, 300, 16_383, 16_384, 60 * 1024, 512 * 1024])


@given(CHANNELS, SIZES)
def test_a_frame_of_data_is_what_protobuf_writes(channel: int, size: int) -> None:
    frame = Data(channel, b"\xa2" * size)
    message = encode(frame)
    assert packed(frame) == message.SerializeToString()
    assert packed_in_tunnel(frame) == Tunnel(stream=message).SerializeToString()
    assert is_data(packed(frame)) == (size > 0)
    assert unpacked(packed(frame)) == frame


@pytest.mark.parametrize("frame", EVERY, ids=repr)
def test_every_frame_passes_a_tunnel(frame: Frame) -> None:
    raw = packed(frame)
    assert raw == encode(frame).SerializeToString()
    assert packed_in_tunnel(frame) == in_tunnel(raw)
    assert Tunnel.FromString(in_tunnel(raw)).stream == encode(frame)
    assert out_of_tunnel(in_tunnel(raw)) == raw
    assert unpacked(raw) == frame


@given(st.binary(max_size=40))
def test_other_bytes_are_read_as_protobuf_reads_them(noise: bytes) -> None:
    for raw in (noise, b"\xa2\x01" + noise, packed(Data(1, b"ab")) + noise):
        try:
            message = streams_pb2.StreamFrame.FromString(raw)
        except DecodeError:
            assert not is_data(raw)
            continue
        if is_data(raw):
            assert unpacked(raw) == Data(message.data.channel, message.data.data)
            assert message.WhichOneof("kind") == "data"


def test_what_is_not_data_alone_is_no_frame_of_data() -> None:
    data = packed(Data(1, b"ab"))
    assert is_data(data)
    assert not is_data(data + packed(Window(1, 2)))
    assert not is_data(packed(Window(1, 2)))
    assert not is_data(data[:-1])
    assert not is_data(b"")


def test_a_message_with_more_than_a_stream_is_not_out_of_the_tunnel() -> None:
    both = Tunnel(tunnel_id="t", stream=encode(Data(1, b"ab"))).SerializeToString()
    assert out_of_tunnel(both) is None
    assert out_of_tunnel(Tunnel(end=dispatcher_pb2.TunnelEnd()).SerializeToString()) is None
