"""A blocking netlink socket for worker threads. SHELL: sends and reads, decides nothing.

The kernel answers while `send` runs, so a call waits only for the kernel's own locks; the timeout
is a safeguard. Invariant: a socket belongs to the namespace in which its thread opened it, and to
one thread at a time.
"""

import errno
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from agent.network import message
from agent.network.base import NetworkFailed

_SOL_NETLINK = 270
_CAP_ACK, _EXT_ACK, _STRICT = 10, 11, 12
_ERROR, _DONE = 2, 3
_GONE = frozenset({errno.ESRCH, errno.ENOENT, errno.ENODEV, errno.EADDRNOTAVAIL, errno.ENXIO})
_BATCH = 128
_TIMEOUT_S = 20
_RECEIVE_BYTES = 1 << 16
_SEND_BYTES = 1 << 16
_SO_SNDBUFFORCE = 32
NETFILTER = 12
"""The protocol of the sockets of nf_tables and conntrack."""
_GET_GENERATION = (10 << 8) | 16
_NETFILTER_BODY = b"\0\0\0\0"


class Refused(NetworkFailed):
    """The kernel's error for one message; `number` is its errno."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(f"the kernel refused: {text or os.strerror(number)}")
        self.number = number


class Netlink:
    """A socket to the kernel of the current thread's network namespace."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        self._sequence = 0
        timeout = struct.pack("ll", _TIMEOUT_S, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
        for option in (_CAP_ACK, _EXT_ACK, _STRICT):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def apply(self, messages: Sequence[bytes], *, ignore_missing: bool = False) -> None:
        """Execute all messages in order, in few system calls. Raises Refused for the first that
        failed.

        A failure does not stop the ones after it. `ignore_missing`: what is to be removed may be
        missing.
        """
        for refused in self.attempt(messages, ignore_missing=ignore_missing).values():
            raise refused

    def attempt(
        self, messages: Sequence[bytes], *, ignore_missing: bool = False
    ) -> dict[int, Refused]:
        """The same, but return the failures by index in `messages`, the first one first."""
        found: dict[int, Refused] = {}
        for start in range(0, len(messages), _BATCH):
            for place, refused in self._apply(messages[start : start + _BATCH]):
                if not (ignore_missing and refused.number in _GONE):
                    found[start + place] = refused
        return found

    def dump(self, request: bytes) -> list[bytes]:
        """The bodies of all objects in the answer to a dump request."""
        for _ in range(5):
            self._send([request], 0)
            bodies, interrupted = self._collect()
            if not interrupted:
                return bodies
        raise NetworkFailed("the kernel's tables change faster than they can be read")

    def one(self, request: bytes) -> bytes | None:
        """The body of the answer to a request for one object; None if the object does not exist."""
        self._send([request], 0)
        kind, _, body = next(message.split(self._socket.recv(_RECEIVE_BYTES)))
        if kind != _ERROR:
            return body
        refused = _refusal(body)
        if refused and refused.number not in _GONE:
            raise refused
        return None

    def commit(self, batch: bytes) -> None:
        """Execute one transaction of nf_tables. Raises Refused; then nothing of it was applied."""
        if len(batch) > _SEND_BYTES:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 2 * len(batch))
        self._socket.send(batch)
        while True:
            for kind, _, body in message.split(self._socket.recv(_RECEIVE_BYTES)):
                if kind == _ERROR:
                    if refused := _refusal(body):
                        self._drain()
                        raise refused
                    return

    def _drain(self) -> None:
        # The kernel's remaining answers are in the socket already.
        with suppress(BlockingIOError):
            while True:
                self._socket.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)

    def _apply(self, batch: Sequence[bytes]) -> list[tuple[int, Refused]]:
        # Only the last message requests an acknowledgement; the kernel reports every failure
        # anyway, in order.
        last = self._send(batch, message.ACK)
        first = last - len(batch) + 1
        failures = []
        while True:
            for kind, sequence, body in message.split(self._socket.recv(_RECEIVE_BYTES)):
                if kind != _ERROR:
                    continue
                if refused := _refusal(body):
                    failures.append((sequence - first, refused))
                if sequence == last:
                    return failures

    def _send(self, batch: Sequence[bytes], flags_of_last: int) -> int:
        first = self._sequence + 1
        self._sequence += len(batch)
        data = bytearray()
        offset = 0
        for number, item in enumerate(batch, first):
            data += item
            offset = len(data) - len(item)
            struct.pack_into("I", data, offset + 8, number)
        flags = struct.unpack_from("H", data, offset + 6)[0] | flags_of_last
        struct.pack_into("H", data, offset + 6, flags)
        self._socket.send(data)
        return self._sequence

    def _collect(self) -> tuple[list[bytes], bool]:
        bodies: list[bytes] = []
        interrupted = False
        while True:
            data = self._socket.recv(_RECEIVE_BYTES)
            # NLM_F_DUMP_INTR: the table changed between two parts of the answer.
            interrupted |= bool(struct.unpack_from("H", data, 6)[0] & 0x10)
            for kind, _, body in message.split(data):
                if kind == _DONE:
                    return bodies, interrupted
                if kind == _ERROR:
                    raise _refusal(body) or NetworkFailed("the kernel ended a dump early")
                bodies.append(body)


def nft_generation() -> int:
    """The generation number, which changes with every change of any nft table of this namespace."""
    with Netlink(NETFILTER) as netfilter:
        body = netfilter.one(message.message(_GET_GENERATION, 0, _NETFILTER_BODY))
    found = message.attributes(body or b"", 4)
    return int.from_bytes(found.get(1, b""))


def _refusal(body: bytes) -> Refused | None:
    number = -struct.unpack_from("i", body)[0]
    if not number:
        return None
    # With a capped payload, the kernel's message follows its copy of our header.
    text = message.attributes(body, 20).get(1, b"").rstrip(b"\0").decode(errors="replace")
    known = os.strerror(number)
    return Refused(number, f"{known} ({text})" if text else known)
