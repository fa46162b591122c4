"""HTTP/2 frames by hand: what no gRPC client sends. They are all that RFC 9113 needs for a call."""

import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from pyswarm_core.aio.credentials import ClientCredentials
from pyswarm_core.identity.trust import SERVER_NAME

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
WINDOW_BYTES = 65_535
FRAME_BYTES = 16_384
TIMEOUT_S = 60.0


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header_block(path: str, *more: tuple[str, str]) -> bytes:
    """The headers of a gRPC call: literals that are not indexed, without Huffman codes."""
    fields = (
        (":method", "POST"),
        (":scheme", "https"),
        (":path", path),
        (":authority", SERVER_NAME),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *more,
    )
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields)


def _text(value: str) -> bytes:
    data = value.encode()
    if len(data) < 127:
        return bytes([len(data)]) + data
    rest, digits = len(data) - 127, []
    while rest >= 128:
        digits.append(rest % 128 + 128)
        rest //= 128
    return bytes([127, *digits, rest]) + data


def context(credentials: ClientCredentials | None) -> ssl.SSLContext:
    """TLS as these credentials, which verifies nothing."""
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    found.check_hostname = False
    found.verify_mode = ssl.CERT_NONE
    found.set_alpn_protocols(["h2"])
    if credentials is not None:
        with TemporaryDirectory() as folder:
            cert, key = Path(folder, "cert"), Path(folder, "key")
            cert.write_bytes(credentials.cert_pem)
            key.write_bytes(credentials.key_pem)
            found.load_cert_chain(cert, key)
    return found


class Http2:
    """A connection that sends what it is told, and answers nothing by itself."""

    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext) -> None:
        plain = socket.create_connection(address, TIMEOUT_S)
        self.socket = tls.wrap_socket(plain, server_hostname=SERVER_NAME)
        self._received = b""

    def __enter__(self) -> "Http2":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def greet(self) -> None:
        """The preface and empty settings."""
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0))

    def call(self, stream: int, path: str, *more: tuple[str, str]) -> None:
        """Begin a call, without its message."""
        self.socket.sendall(frame(HEADERS, END_HEADERS, stream, header_block(path, *more)))

    def frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Kind, flags, stream and payload of what arrives, until the server closes the connection.
        Settings are acknowledged.
        """
        while True:
            while len(self._received) < 9:
                if not self._receive():
                    return
            size = int.from_bytes(self._received[:3])
            while len(self._received) < 9 + size:
                if not self._receive():
                    return
            kind, flags, stream = struct.unpack(">BBI", self._received[3:9])
            payload, self._received = self._received[9 : 9 + size], self._received[9 + size :]
            if kind == SETTINGS and not flags & ACK:
                self.socket.sendall(frame(SETTINGS, ACK, 0))
            yield kind, flags, stream, payload

    def _receive(self) -> bool:
        try:
            data = self.socket.recv(65_536)
        except (ConnectionResetError, ssl.SSLEOFError):
            return False
        self._received += data
        return bool(data)

    def fill(self, streams: range, size: int, quiet_s: float, least: int = 0) -> int:
        """Send on every stream as much of a message of `size` bytes as the server lets in, but for
        the last byte; return how much that was when nothing has moved for so long. Up to `least`
        bytes a busy server may pause longer.
        """
        left = {stream: struct.pack(">BI", 0, size) + bytes(size - 1) for stream in streams}
        total, limit = sum(map(len, left.values())), WINDOW_BYTES
        windows: dict[int, int] = {}
        initial = WINDOW_BYTES
        arriving = self.frames()
        while True:
            limit = self._send(left, windows, initial, limit)
            sent = total - sum(map(len, left.values()))
            self.socket.settimeout(quiet_s if sent > least else TIMEOUT_S)
            try:
                kind, flags, stream, payload = next(arriving)
            except (TimeoutError, StopIteration):
                return sent
            if kind == WINDOW:
                more = int.from_bytes(payload) & 0x7FFFFFFF
                if stream:
                    windows[stream] = windows.get(stream, 0) + more
                else:
                    limit += more
            elif kind == SETTINGS and not flags & ACK:
                for at in range(0, len(payload), 6):
                    name, value = struct.unpack(">HI", payload[at : at + 6])
                    initial = value if name == 4 else initial
            elif kind == PING and not flags & ACK:
                self.socket.sendall(frame(PING, ACK, 0, payload))
            elif stream in left and (kind == RESET or flags & END_STREAM):
                left[stream] = b""

    def _send(
        self, left: dict[int, bytes], windows: dict[int, int], initial: int, limit: int
    ) -> int:
        """Send what the windows allow; return what is left of the connection's."""
        for stream, data in left.items():
            used = windows.setdefault(stream, 0)
            size = min(len(data), limit, initial + used, 64 * FRAME_BYTES)
            for at in range(0, max(size, 0), FRAME_BYTES):
                part = data[at : min(at + FRAME_BYTES, size)]
                self.socket.sendall(frame(DATA, 0, stream, part))
            if size > 0:
                left[stream], windows[stream] = data[size:], used - size
                limit -= size
        return limit
