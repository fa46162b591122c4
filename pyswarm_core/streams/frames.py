"""The frames of a byte stream, as values, and their messages. PURE.

proto/pyswarm_core/api/v1/streams.proto says what each frame means.
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from pyswarm_core.api.v1 import streams_pb2
from pyswarm_core.codec import from_proto, to_proto

STDIN, STDOUT, STDERR = 0, 1, 2
"""The channels of a program."""


class Data(msgspec.Struct, frozen=True, gc=False):
    """Bytes of a channel."""

    channel: int
    data: bytes


class Window(msgspec.Struct, frozen=True, gc=False):
    """The receiver of the channel accepts so many more bytes."""

    channel: int
    credit: int


class HalfClose(msgspec.Struct, frozen=True, gc=False):
    """The channel's sender has ended."""

    channel: int


class Resize(msgspec.Struct, frozen=True, gc=False):
    """The size of the caller's terminal."""

    rows: int
    columns: int


class Signal(msgspec.Struct, frozen=True, gc=False):
    """A signal for the program."""

    name: str


class Detach(msgspec.Struct, frozen=True, gc=False):
    """The caller leaves, and the program goes on."""


class Connect(msgspec.Struct, frozen=True, gc=False):
    """Open a connection, which is this channel."""

    channel: int


class Close(msgspec.Struct, frozen=True, gc=False):
    """The connection ended in both directions, with an error unless the message is empty."""

    channel: int
    message: str = ""


class Started(msgspec.Struct, frozen=True, gc=False):
    """The operation began."""

    terminal: bool = False
    stdin: bool = False
    notice: str = ""
    port: int = 0
    key: str = ""


class Exit(msgspec.Struct, frozen=True, gc=False):
    """The program ended, or the operation is complete: the last frame."""

    code: int = 0
    message: str = ""


class Digest(msgspec.Struct, frozen=True, gc=False):
    """The archive of a whole volume is complete, and this is what was sent; of one that was sent
    directly the digest is empty.
    """

    sha256: bytes
    size: int


class Size(msgspec.Struct, frozen=True, gc=False):
    """About how large the archive will be."""

    size: int


class Dial(msgspec.Struct, frozen=True, gc=False):
    """Where the archive may be sent directly; with the port 0 it may not."""

    node: str = ""
    address: str = ""
    port: int = 0
    key: str = ""


class Copied(msgspec.Struct, frozen=True, gc=False):
    """So much of an archive has arrived directly."""

    size: int


Frame = (
    Data
    | Window
    | HalfClose
    | Resize
    | Signal
    | Detach
    | Connect
    | Close
    | Started
    | Exit
    | Digest
    | Size
    | Dial
    | Copied
)
Message = streams_pb2.StreamFrame

_KINDS: Mapping[str, type[Frame]] = MappingProxyType(
    {
        "window": Window,
        "half_close": HalfClose,
        "resize": Resize,
        "signal": Signal,
        "detach": Detach,
        "connect": Connect,
        "close": Close,
        "started": Started,
        "exit": Exit,
        "digest": Digest,
        "size": Size,
        "dial": Dial,
        "copied": Copied,
    }
)
_FIELDS: Mapping[type[Frame], str] = MappingProxyType({cls: name for name, cls in _KINDS.items()})


def encode(frame: Frame) -> Message:
    """The message of a frame."""
    if isinstance(frame, Data):  # the only frequent one
        data = streams_pb2.StreamData(channel=frame.channel, data=frame.data)
        return Message(data=data)
    message = Message()
    field = getattr(message, _FIELDS[type(frame)])
    field.SetInParent()
    to_proto(frame, field)
    return message


def decode(message: Message) -> Frame | None:
    """The frame of a message; None for one of a kind that is not known here."""
    kind = message.WhichOneof("kind")
    if kind == "data":
        return Data(message.data.channel, message.data.data)
    cls = _KINDS.get(kind or "")
    return from_proto(cls, getattr(message, kind)) if cls and kind else None
