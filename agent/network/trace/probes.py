"""Trace probes from a task's network namespace: DNS queries, echoes, connections. SHELL.

Blocking, in pool threads. Invariant: a socket is created inside the task's namespace and used
outside; no thread stays in the namespace while it waits.
"""

import os
import select
import socket
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from agent.network.base import RESOLVER_ADDRESS
from agent.network.dns.wire import NAME_ERROR, NO_ERROR
from agent.network.netns import Namespaces
from agent.network.sockets import listeners
from pyswarm_core.aio.echo import (
    ECHO_HEADER,
    NONCE_BYTES,
    V4,
    V6,
    EchoKinds,
    answered,
    request,
)
from pyswarm_core.ids import TaskId
from pyswarm_core.traces import Attempt

TIMEOUT_S = 2.0
REFUSAL_TIMEOUT_S = 0.5
"""How long a UDP probe waits for a refusal."""
ECHO_PERIOD_S = 0.1
ECHO_PATIENCE_S = 2.0
"""How long an end sends echoes and listens for those of the other end, which may begin a little
later.
"""

_DISCOVERY_PROBE = 3
"""IP_PMTUDISC_PROBE: never fragment, and ignore the known path MTU."""
_SMALL = 84
_NUMBER = struct.Struct("!I")
_ERROR = struct.Struct("!BB4xH")
"""Type, code, and the largest packet that fits."""


class _Version(NamedTuple):
    """The differences between echoes of IPv4 and IPv6."""

    family: socket.AddressFamily
    protocol: int
    level: int
    mtu_discover: int
    ip_header: int
    kinds: EchoKinds
    too_big: tuple[int, int]
    """Type and code of the error."""


_V4 = _Version(socket.AF_INET, socket.IPPROTO_ICMP, socket.IPPROTO_IP, 10, 20, V4, (3, 4))
_V6 = _Version(socket.AF_INET6, socket.IPPROTO_ICMPV6, socket.IPPROTO_IPV6, 23, 40, V6, (2, 0))


class Probes:
    """Probes from one task's network namespace."""

    def __init__(self, spaces: Namespaces, task_id: TaskId) -> None:
        self._spaces = spaces
        self.task_id = task_id

    def ask_name(self, name: str) -> Attempt:
        """Ask the task's resolver for a name."""
        from dnslib import RCODE, DNSError, DNSRecord  # see network/dns/parsing.py

        began, error = time.monotonic_ns(), ""
        try:
            with self._socket(RESOLVER_ADDRESS, socket.SOCK_DGRAM) as asking:
                asking.settimeout(TIMEOUT_S)
                asking.connect((RESOLVER_ADDRESS, 53))
                asking.send(DNSRecord.question(name).pack())
                answer = DNSRecord.parse(asking.recv(4096))
        except (OSError, DNSError) as failed:
            return Attempt(to=name, error=_text(failed))
        if answer.header.rcode not in (NO_ERROR, NAME_ERROR):
            # The resolver never returns such codes for names that it holds: the query was
            # forwarded.
            error = f"another name server answered {RCODE.get(answer.header.rcode)}"
        addresses = tuple(str(record.rdata) for record in answer.rr if record.rtype == 1)
        elapsed = time.monotonic_ns() - began
        return Attempt(to=name, error=error, addresses=addresses, elapsed=elapsed)

    def echo(self, address: str, size: int = _SMALL) -> Attempt:
        """Send echoes of `size` bytes, which must not be fragmented, until one is answered."""
        try:
            with self._socket(address, socket.SOCK_RAW, _version(address).protocol) as raw:
                return echo_by(raw, address, size, ECHO_PATIENCE_S)
        except OSError as error:
            return Attempt(to=address, bytes=size, error=_text(error))

    def connect(self, address: str, port: int, *, udp: bool) -> Attempt:
        """Open and close a TCP connection; for UDP, send an empty datagram, which fails if the
        other end refuses it.
        """
        kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
        began = time.monotonic_ns()
        try:
            with self._socket(address, kind) as client:
                client.settimeout(TIMEOUT_S)
                client.connect((address, port))
                if udp:
                    client.send(b"")
                    client.settimeout(REFUSAL_TIMEOUT_S)
                    with suppress(TimeoutError):
                        client.recv(1)
        except OSError as failed:
            return Attempt(to=address, error=_text(failed))
        return Attempt(to=address, elapsed=time.monotonic_ns() - began)

    def listeners(self, *, udp: bool) -> tuple[str, ...]:
        """`address:port` of every listening socket in the namespace."""
        found: set[tuple[int, str]] = set()
        with self._spaces.entered(self.task_id):
            for name in ("udp", "udp6") if udp else ("tcp", "tcp6"):
                with suppress(FileNotFoundError):
                    table = Path(f"/proc/thread-self/net/{name}").read_bytes()
                    found.update((port, address) for address, port in listeners(table, udp=udp))
        return tuple(f"[{a}]:{port}" if ":" in a else f"{a}:{port}" for port, a in sorted(found))

    def _socket(self, address: str, kind: socket.SocketKind, protocol: int = 0) -> socket.socket:
        with self._spaces.entered(self.task_id):
            return socket.socket(_version(address).family, kind, protocol)


def echo_by(raw: socket.socket, address: str, size: int, patience_s: float) -> Attempt:
    """Send echoes of that size by a raw ICMP socket, for `patience_s`. Raises OSError."""
    raw.setsockopt(_version(address).level, _version(address).mtu_discover, _DISCOVERY_PROBE)
    raw.setblocking(False)
    arriving = select.poll()  # select() accepts no descriptor above 1,023
    arriving.register(raw, select.POLLIN)
    echoes = _Echoes(raw, address, size)
    last, error = time.monotonic() + patience_s, f"no answer within {patience_s:g} s"
    while (now := time.monotonic()) < last:
        error = echoes.send() or error
        until = min(last, now + ECHO_PERIOD_S)
        while (left := until - time.monotonic()) > 0 and arriving.poll(left * 1_000):
            if elapsed := echoes.receive():
                return Attempt(to=address, bytes=size, heard=echoes.heard, elapsed=elapsed)
    return Attempt(to=address, bytes=size, heard=echoes.heard, error=echoes.error or error)


class _Echoes:
    """The echoes sent to one address."""

    def __init__(self, raw: socket.socket, address: str, size: int) -> None:
        self._raw = raw
        self._version = version = _version(address)
        self._address = address
        self._nonce = os.urandom(NONCE_BYTES)
        length = size - version.ip_header - ECHO_HEADER - NONCE_BYTES - _NUMBER.size
        self._padding = bytes(length)
        self._sent: list[int] = []
        self.heard = False
        self.error = ""

    def send(self) -> str:
        """Send one echo. Returns the error if the kernel refuses."""
        body = self._nonce + _NUMBER.pack(len(self._sent)) + self._padding
        packet = request(body, len(self._sent) & 0xFFFF, self._version.kinds)
        self._sent.append(time.monotonic_ns())
        try:
            self._raw.sendto(packet, (self._address, 0))
        except OSError as error:
            return _text(error)
        return ""

    def receive(self) -> int:
        """Read a packet. Returns the round-trip time of an answer, 0 for any other packet."""
        version = self._version
        with suppress(OSError, struct.error):
            packet, (sender, *_) = self._raw.recvfrom(65536)
            with_ip = version is _V4
            number = answered(packet, self._nonce, version.kinds, with_ip=with_ip)
            if number is not None:
                return max(1, time.monotonic_ns() - self._sent[number])
            kind, code, largest = _ERROR.unpack_from(packet, version.ip_header if with_ip else 0)
            if kind == version.kinds.request:
                self.heard |= sender == self._address
            elif self._nonce in packet:  # an error quotes the packet that caused it
                too_big = (kind, code) == version.too_big
                reason = f"accepts at most {largest} bytes" if too_big else "reports: unreachable"
                self.error = f"{sender} {reason}"
        return 0


def _version(address: str) -> _Version:
    return _V6 if ":" in address else _V4


def _text(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_S:g} s"
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
