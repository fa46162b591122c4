"""Messages of byte streams at the edge of gRPC: frames of data stay bytes, so that the controller
does not copy their data into messages and back. PURE.

Only a frame of data and nothing else is passed on unread: it has no text that a peer may have made
up.
"""

from collections.abc import Callable

from google.protobuf.message import Message

from pyswarm_core.streams.requests import ALL_OPERATIONS
from pyswarm_core.streams.wire import is_data, out_of_tunnel

TUNNEL = "/pyswarm.v1.Dispatcher/Tunnel"
_OF_CALLERS = frozenset(f"/pyswarm.v1.Control/{one.method}" for one in ALL_OPERATIONS)

Decode = Callable[[bytes], object]
Encode = Callable[[Message], bytes]


def decoder(method: str, decode: Decode) -> Decode:
    """The decoder of a method's messages; those that are passed on become the bytes of their
    StreamFrame.
    """

    def of_tunnel(raw: bytes) -> object:
        frame = out_of_tunnel(raw)
        return frame if frame is not None and is_data(frame) else decode(raw)

    def of_caller(raw: bytes) -> object:
        return raw if is_data(raw) else decode(raw)

    if method == TUNNEL:
        return of_tunnel
    return of_caller if method in _OF_CALLERS else decode


def encoder(encode: Encode) -> Callable[[Message | bytes], bytes]:
    """The encoder of a method's answers, some of which are bytes already."""

    def encoded(message: Message | bytes) -> bytes:
        return message if isinstance(message, bytes) else encode(message)

    return encoded
