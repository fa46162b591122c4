"""The frames of one call of grpc.health.v1.Health/Check. PURE: bytes in, bytes out.

A gRPC channel connects by itself, from its own namespace, with threads; one call of a few frames
needs none of that. Headers of the answer are not decoded: only the message says SERVING.
"""

import struct
from collections.abc import Iterator

PATH = "/grpc.health.v1.Health/Check"
SERVING = 1
STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
FRAME_MAX = 1 << 14
"""The largest frame that a server may send without being allowed more (RFC 9113, 4.2)."""
ANSWER_MAX = 1 << 16
"""Bytes of a server that are read in all; an answer is a few hundred."""
MESSAGE_MAX = 1024
"""The largest message that is read; the status is two bytes."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_ACK = _END_STREAM = 1
_END_HEADERS = 4
_PADDED = 8
_HEAD = 9
_POST, _SCHEME_HTTP = b"\x83", b"\x86"
"""Fields of HPACK's static table."""
_NAME_PATH, _NAME_AUTHORITY, _NAME_CONTENT_TYPE = b"\x04", b"\x01", b"\x0f\x10"
"""Names of that table, before a value of our own."""


def request(authority: str, service: str) -> bytes:
    """Everything to send: the preface, empty settings, and the call on stream 1."""
    headers = b"".join(
        (
            _POST,
            _SCHEME_HTTP,
            _NAME_PATH + _text(PATH),
            _NAME_AUTHORITY + _text(authority),
            _NAME_CONTENT_TYPE + _text("application/grpc"),
            b"\x00" + _text("te") + _text("trailers"),
        )
    )
    name = service.encode()
    message = b"\x0a" + _integer(len(name)) + name if name else b""
    body = struct.pack(">BI", 0, len(message)) + message
    return b"".join(
        (
            _PREFACE,
            _frame(_SETTINGS, 0, 0, b""),
            _frame(_HEADERS, _END_HEADERS, 1, headers),
            _frame(_DATA, _END_STREAM, 1, body),
        )
    )


class Answer:
    """What a server has sent so far."""

    def __init__(self) -> None:
        self.status: int | None = None
        """The service's status, once it is known."""
        self.ended = False
        """No status will come any more."""
        self._left = b""
        self._body = b""
        self._fed = 0

    def feed(self, data: bytes) -> bytes:
        """Take in bytes of the server; return what to send in answer."""
        self._fed += len(data)
        if self._fed > ANSWER_MAX:
            self.ended = True
            return b""
        self._left += data
        return b"".join(self._taken(*frame) for frame in self._frames())

    def _frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        while len(self._left) >= _HEAD and not self.ended:
            size = int.from_bytes(self._left[:3])
            if size > FRAME_MAX:  # not HTTP/2
                self.ended = True
                return
            if len(self._left) < _HEAD + size:
                return
            kind, flags, stream = struct.unpack(">BBI", self._left[3:_HEAD])
            payload = self._left[_HEAD : _HEAD + size]
            self._left = self._left[_HEAD + size :]
            yield kind, flags, stream, payload

    def _taken(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        reply = b""
        if kind == _SETTINGS and not flags & _ACK:
            reply = _frame(_SETTINGS, _ACK, 0, b"")
        elif kind == _PING and not flags & _ACK:
            reply = _frame(_PING, _ACK, 0, payload)
        elif kind == _RST_STREAM or (kind == _GOAWAY and not _still_answers(payload)):
            self.ended = True
        elif kind == _DATA and stream == 1:
            padding = payload[0] if flags & _PADDED and payload else 0
            self._body += payload[1 : len(payload) - padding] if flags & _PADDED else payload
            self._read_body()
        if kind in (_DATA, _HEADERS) and stream == 1 and flags & _END_STREAM:
            self.ended = True
        return reply

    def _read_body(self) -> None:
        """The message, once it is complete: at most one field, the status."""
        if len(self._body) < 5:
            return
        size = int.from_bytes(self._body[1:5])
        message = self._body[5 : 5 + size]
        if size > MESSAGE_MAX:
            self.ended = True
        elif len(message) == size:
            self.status = message[1] if len(message) > 1 and message[0] == 0x08 else 0


def _still_answers(goaway: bytes) -> bool:
    """Whether the server that shuts down without an error still answers the call on stream 1."""
    last_stream, error = int.from_bytes(goaway[:4]) & 0x7FFFFFFF, int.from_bytes(goaway[4:8])
    return len(goaway) >= 8 and not error and last_stream >= 1


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + struct.pack(">BBI", kind, flags, stream) + payload


def _text(value: str) -> bytes:
    """A string literal of HPACK, without Huffman coding."""
    data = value.encode()
    return _hpack_integer(len(data)) + data


def _hpack_integer(value: int) -> bytes:
    """RFC 7541, 5.1, with a prefix of seven bits."""
    return bytes([value]) if value < 127 else b"\x7f" + _integer(value - 127)


def _integer(value: int) -> bytes:
    """Groups of seven bits, the lowest first, as in HPACK and in protocol buffers."""
    found = b""
    while value >= 0x80:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])
