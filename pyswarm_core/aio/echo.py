"""Sends ICMP echoes (RFC 792) to hosts and receives the replies. SHELL.

One raw socket for all hosts, or one of Linux's ping sockets where there is no CAP_NET_RAW but
`net.ipv4.ping_group_range` allows it; without both no echo can be sent. Nothing here waits: the
event loop calls back when a packet arrives and when a window ends.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple, Protocol

from pyswarm_core.clock import seconds
from pyswarm_core.limits import ECHOES_AT_ONCE, ECHOES_PER_WINDOW

Done = Callable[[str, bool], None]

READS_AT_ONCE = 64
"""Packets that are read before others run."""
_SOL_RAW, _ICMP_FILTER = 255, 1
_HEADER = struct.Struct("!BBHHH")
ECHO_HEADER = _HEADER.size
NONCE_BYTES = 8
_BODY = struct.Struct(f"!{NONCE_BYTES}sI")
"""The owner and number of an echo in its body: the kernel sets a ping socket's identifier."""


class EchoKinds(NamedTuple):
    """The types of request and reply in one IP version."""

    request: int
    reply: int


V4, V6 = EchoKinds(8, 0), EchoKinds(128, 129)


class Asker(Protocol):
    """Probes hosts; `Echoes` is the real one."""

    def ask(self, key: str, address: str, window: int) -> bool:
        """Send echoes to the host at `address` for `window` nanoseconds. Return whether that is
        possible; then the outcome is reported with `key`.
        """
        ...

    def hear(self) -> None:
        """Report replies that have arrived and were not read: call it before concluding that there
        is none.
        """
        ...

    def close(self) -> None:
        """Stop sending and receiving."""
        ...


class NoEchoes:
    """The Asker for hosts that cannot send echoes."""

    def __init__(self, done: Done) -> None:
        """`done` is never called."""

    def ask(self, key: str, address: str, window: int) -> bool:
        """See `Asker`."""
        return False

    def hear(self) -> None:
        """See `Asker`."""

    def close(self) -> None:
        """See `Asker`."""


class _Asked:
    """One host within one window."""

    def __init__(self, key: str, address: str, window_s: float) -> None:
        self.key = key
        self.address = address
        self.pause_s = window_s / ECHOES_PER_WINDOW
        self.sent = 0
        self.timer: asyncio.TimerHandle | None = None


class Echoes:
    """`done(key, answered)` is called once per probed host, at the latest when its window ends."""

    def __init__(self, done: Done) -> None:
        self._done = done
        self._asked: dict[int, _Asked] = {}
        self._number = 0
        self._nonce = os.urandom(8)
        self._socket, self._raw = _open()
        if self._socket is not None:
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)

    def ask(self, key: str, address: str, window: int) -> bool:
        """See `Asker`; `address` is an IPv4 address."""
        if self._socket is None or len(self._asked) >= ECHOES_AT_ONCE:
            return False
        self._number = (self._number + 1) & 0xFFFFFFFF
        asked = self._asked[self._number] = _Asked(key, address, seconds(window))
        if self._send(self._number, asked):
            return True
        self._finish(self._number)
        return False

    def close(self) -> None:
        """See `Asker`."""
        for asked in self._asked.values():
            if asked.timer is not None:
                asked.timer.cancel()
        self._asked.clear()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _send(self, number: int, asked: _Asked) -> bool:
        """Send one echo and schedule the next step; False if none can be sent to the host."""
        assert self._socket is not None
        packet = request(_BODY.pack(self._nonce, number), asked.sent)
        try:
            self._socket.sendto(packet, (asked.address, 0))
        except OSError:
            if not asked.sent:
                return False
        asked.sent += 1
        loop = asyncio.get_running_loop()
        asked.timer = loop.call_later(asked.pause_s, self._go_on, number)
        return True

    def _go_on(self, number: int) -> None:
        asked = self._asked[number]
        if asked.sent < ECHOES_PER_WINDOW:
            self._send(number, asked)
            return
        self.hear()
        if self._finish(number) is not None:
            self._done(asked.key, False)

    def hear(self) -> None:
        """See `Asker`."""
        self._take(ECHOES_PER_WINDOW * ECHOES_AT_ONCE)

    def _read(self) -> None:
        self._take(READS_AT_ONCE)

    def _take(self, count: int) -> None:
        """Read up to a limit of packets, or all that have arrived."""
        for _ in range(count):
            if self._socket is None:
                return
            try:
                packet = self._socket.recv(2048)
            except ConnectionError:
                continue  # a host reported that it is unreachable: the end of the window covers it
            except OSError:
                return
            number = answered(packet, self._nonce, with_ip=self._raw)
            if number is not None and (asked := self._finish(number)):
                self._done(asked.key, True)

    def _finish(self, number: int) -> _Asked | None:
        asked = self._asked.pop(number, None)
        if asked is not None and asked.timer is not None:
            asked.timer.cancel()
        return asked


def request(body: bytes, sequence: int, kinds: EchoKinds = V4) -> bytes:
    """An echo request with this body. The checksum is IPv4's: the kernel writes that of IPv6."""
    packet = _HEADER.pack(kinds.request, 0, 0, 0, sequence) + body
    padded = packet + bytes(len(packet) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    total = (total & 0xFFFF) + (total >> 16)
    checksum: int = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return packet[:2] + checksum.to_bytes(2) + packet[4:]


def answered(packet: bytes, nonce: bytes, kinds: EchoKinds = V4, *, with_ip: bool) -> int | None:
    """The number of the echo that this packet answers; None if it answers none of ours."""
    start = (packet[0] & 15) * 4 if with_ip and packet else 0
    body = packet[start + _HEADER.size :]
    if len(body) < _BODY.size or packet[start] != kinds.reply:
        return None
    whose, number = _BODY.unpack_from(body)
    return int(number) if whose == nonce else None


def _open() -> tuple[socket.socket | None, bool]:
    for kind in (socket.SOCK_RAW, socket.SOCK_DGRAM):
        try:
            opened = socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP)
        except OSError:
            continue
        opened.setblocking(False)
        if kind is socket.SOCK_RAW:
            # Replies only: a raw socket receives every ICMP packet of the host.
            opened.setsockopt(
                _SOL_RAW, _ICMP_FILTER, struct.pack("I", ~(1 << V4.reply) & 0xFFFFFFFF)
            )
        return opened, kind is socket.SOCK_RAW
    return None, False
