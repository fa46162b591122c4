"""Frames as the bytes of their messages. PURE.

Protobuf copies the data of a frame once per message that it is nested in, for writing and for
reading. So frames of data are written and read here: a head of a few bytes, then the data. The
result is what protobuf writes; all other frames go through protobuf.
"""

from pyswarm_core.api.v1 import dispatcher_pb2, streams_pb2
from pyswarm_core.streams.frames import Data, Frame, Message, decode, encode

_LENGTH_DELIMITED = 2
_VARINT_BYTES_MAX = 5
"""Of a length or channel, which have 32 bits."""


def packed(frame: Frame) -> bytes:
    """A StreamFrame."""
    if isinstance(frame, Data):
        return b"".join((*_heads(frame), frame.data))
    return encode(frame).SerializeToString()


def packed_in_tunnel(frame: Frame) -> bytes:
    """A TunnelFrame with that StreamFrame."""
    if isinstance(frame, Data):
        heads = b"".join(_heads(frame))
        return b"".join((_STREAM, _varint(len(heads) + len(frame.data)), heads, frame.data))
    return in_tunnel(packed(frame))


def unpacked(raw: bytes) -> Frame | None:
    """The frame of a StreamFrame; None for one of a kind that is not known here. Raises protobuf's
    DecodeError.
    """
    if (found := _data(raw)) is not None:
        channel, start = found
        return Data(channel, raw[start:])
    return decode(Message.FromString(raw))


def is_data(raw: bytes) -> bool:
    """Whether a StreamFrame has bytes of a channel, and nothing else."""
    return _data(raw) is not None


def in_tunnel(raw: bytes) -> bytes:
    """The TunnelFrame with this StreamFrame."""
    return b"".join((_STREAM, _varint(len(raw)), raw))


def out_of_tunnel(raw: bytes) -> bytes | None:
    """The StreamFrame of a TunnelFrame that has nothing else; None of another one."""
    start = _field(raw, 0, _STREAM)
    return None if start is None else raw[start:]


def _heads(frame: Data) -> tuple[bytes, ...]:
    """What comes before the data."""
    channel = _CHANNEL + _varint(frame.channel) if frame.channel else b""
    data = _BYTES + _varint(len(frame.data)) if frame.data else b""
    inner = channel + data
    return _DATA, _varint(len(inner) + len(frame.data)), inner


def _data(raw: bytes) -> tuple[int, int] | None:
    """The channel of a frame of data, and where its bytes begin; None of other frames, and where
    protobuf would have written it otherwise.
    """
    start = _field(raw, 0, _DATA)
    if start is None:
        return None
    channel = 0
    if raw.startswith(_CHANNEL, start):
        channel, start = _number(raw, start + len(_CHANNEL))
    start = _field(raw, start, _BYTES)
    return None if start is None else (channel, start)


def _field(raw: bytes, at: int, tag: bytes) -> int | None:
    """Where the content of the field of that tag begins, if it is at `at` and lasts to the end."""
    if not raw.startswith(tag, at):
        return None
    size, at = _number(raw, at + len(tag))
    return at if at + size == len(raw) else None


def _number(raw: bytes, at: int) -> tuple[int, int]:
    """A number of at most 32 bits, and what follows it; no length fits what is none."""
    value = 0
    for shift, byte in enumerate(raw[at : at + _VARINT_BYTES_MAX]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return (value, at + shift + 1) if value < 1 << 32 else (-1, len(raw) + 2)
    return -1, len(raw) + 2


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _tag(message: type, field: str) -> bytes:
    """What begins a field of bytes or of a message."""
    number = message.DESCRIPTOR.fields_by_name[field].number  # type: ignore[attr-defined]
    return _varint(number << 3 | _LENGTH_DELIMITED)


_STREAM = _tag(dispatcher_pb2.TunnelFrame, "stream")
_DATA = _tag(streams_pb2.StreamFrame, "data")
_BYTES = _tag(streams_pb2.StreamData, "data")
_CHANNEL = _varint(streams_pb2.StreamData.DESCRIPTOR.fields_by_name["channel"].number << 3)
