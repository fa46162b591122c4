"""Frames and their messages."""

import pytest

from pyswarm_core.api.v1 import streams_pb2
from pyswarm_core.streams import frames
from pyswarm_core.streams.frames import Frame, decode, encode
from pyswarm_core.streams.requests import ALL_OPERATIONS

EVERY: list[Frame] = [
    frames.Data(2, b"\x00\xff"),
    frames.Window(1, 1 << 31),
    frames.HalfClose(0),
    frames.Resize(24, 80),
    frames.Signal("SIGHUP"),
    frames.Detach(),
    frames.Connect(7),
    frames.Close(7, "refused"),
    frames.Started(terminal=True, stdin=True),
    frames.Started(port=7946, key="5ecre7"),
    frames.Exit(137, "why"),
    frames.Exit(),
    frames.Digest(b"\xff" * 32, 1 << 40),
    frames.Size(1 << 40),
    frames.Dial("n1", "192.0.2.1", 7946, "5ecre7"),
    frames.Copied(1 << 40),
]


@pytest.mark.parametrize("frame", EVERY, ids=repr)
def test_a_frame_arrives_as_it_was_sent(frame: Frame) -> None:
    data = encode(frame).SerializeToString()
    assert decode(streams_pb2.StreamFrame.FromString(data)) == frame


def test_frames_of_unknown_kinds_are_none() -> None:
    opening = streams_pb2.StreamFrame(exec=streams_pb2.ExecRequest(ref="web"))
    assert decode(opening) is None
    assert decode(streams_pb2.StreamFrame.FromString(b"\xfa\x06\x00")) is None


def test_every_kind_of_the_message_is_a_frame_or_opens_a_stream() -> None:
    kinds = {field.name for field in streams_pb2.StreamFrame.DESCRIPTOR.fields}
    known = {encode(frame).WhichOneof("kind") for frame in EVERY}
    assert kinds - known == {one.field for one in ALL_OPERATIONS}
