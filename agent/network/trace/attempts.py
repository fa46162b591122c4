"""Tries a task's way for real: asks its resolver, sends echoes, connects, looks who listens. SHELL.

Blocking, in pool threads. Invariant: a socket is made inside the task's namespace and used outside;
no thread stays in there while it waits.
"""

import os
import select
import socket
import struct
import time
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

from dnslib import RCODE, DNSError, DNSRecord

from agent.network.base import RESOLVER_ADDRESS
from agent.network.dns.wire import NAME_ERROR, NO_ERROR
from agent.network.netns import Namespaces
from agent.network.sockets import listeners
from pyswarm_core.ids import TaskId
from pyswarm_core.traces import ConnectionFact, EchoFact, NameFact

NAME_TIMEOUT_S = 2.0
CONNECT_TIMEOUT_S = 2.0
ECHO_PERIOD_S = 0.1
ECHO_PATIENCE_S = 2.0
"""So long an end sends echoes and listens for the other's, who may begin a little later."""

_MTU_DISCOVER, _PROBE = 10, 3
_REPLY, _UNREACHABLE, _REQUEST = 0, 3, 8
_TOO_BIG = 4
_HEADERS = 28
_SMALL = 84
_ICMP = struct.Struct("!BBHHH")


def ask_name(spaces: Namespaces, task_id: TaskId, name: str) -> NameFact:
    """What the task's resolver says of a name, asked as the task would."""
    began = time.monotonic_ns()
    query = DNSRecord.question(name)
    try:
        with _socket(spaces, task_id, socket.SOCK_DGRAM) as asking:
            asking.settimeout(NAME_TIMEOUT_S)
            asking.connect((RESOLVER_ADDRESS, 53))
            asking.send(query.pack())
            answer = DNSRecord.parse(asking.recv(4096))
    except TimeoutError:
        return NameFact(error=f"no answer within {NAME_TIMEOUT_S:g} s")
    except (OSError, DNSError) as error:
        return NameFact(error=_text(error))
    elapsed = time.monotonic_ns() - began
    if answer.header.rcode not in (NO_ERROR, NAME_ERROR):
        # Of names that it knows it never says so: other name servers were asked.
        return NameFact(error=f"the resolver was told {RCODE.get(answer.header.rcode)}")
    addresses = tuple(str(record.rdata) for record in answer.rr if record.rtype == 1)
    return NameFact(addresses=addresses, elapsed=elapsed)


def echo(spaces: Namespaces, task_id: TaskId, address: str, size: int = _SMALL) -> EchoFact:
    """Send echoes of `size` bytes that must not be fragmented until one is answered; what came of
    it.
    """
    try:
        with _socket(spaces, task_id, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
            return echo_by(raw, address, size, ECHO_PATIENCE_S)
    except OSError as error:
        return EchoFact(bytes=size, error=_text(error))


def echo_by(raw: socket.socket, address: str, size: int, patience_s: float) -> EchoFact:
    """The same by a raw socket of ICMP, for so long. Raises OSError."""
    raw.setsockopt(socket.IPPROTO_IP, _MTU_DISCOVER, _PROBE)
    raw.setblocking(False)
    return _Echo(raw, address, size).run(patience_s)


class _Echo:
    def __init__(self, raw: socket.socket, address: str, size: int) -> None:
        self._raw = raw
        self._address = address
        self._size = size
        self._ident = int.from_bytes(os.urandom(2))
        self._sent: list[int] = []
        self._heard = False
        self._error = ""

    def run(self, patience_s: float) -> EchoFact:
        last = time.monotonic() + patience_s
        arriving = select.poll()  # select() takes no descriptor above 1,023
        arriving.register(self._raw, select.POLLIN)
        while (now := time.monotonic()) < last:
            self._send()
            until = min(last, now + ECHO_PERIOD_S)
            while (left := until - time.monotonic()) > 0:
                if not arriving.poll(left * 1_000):
                    break
                elapsed = self._receive()
                if elapsed:
                    return EchoFact(
                        bytes=self._size, answered=True, heard=self._heard, elapsed=elapsed
                    )
        return EchoFact(bytes=self._size, heard=self._heard, error=self._error)

    def _send(self) -> None:
        head = _ICMP.pack(_REQUEST, 0, 0, self._ident, len(self._sent) & 0xFFFF)
        packet = head + bytes(self._size - _HEADERS)
        total = _checksum(packet)
        try:
            self._raw.sendto(packet[:2] + total + packet[4:], (self._address, 0))
        except OSError as error:
            self._error = _text(error)
        self._sent.append(time.monotonic_ns())

    def _receive(self) -> int:
        """How long an answer took; 0: it was none of ours."""
        with suppress(OSError):
            packet, (sender, _) = self._raw.recvfrom(65536)
            body = packet[(packet[0] & 15) * 4 :]
            number: int
            kind, code, _, ident, number = _ICMP.unpack_from(body)
            if kind == _REPLY and ident == self._ident and number < len(self._sent):
                elapsed = time.monotonic_ns() - self._sent[number]
                return max(1, elapsed)
            self._heard |= kind == _REQUEST and sender == self._address
            # Such a message quotes the packet that it is about.
            quoted = body[8:]
            ours = kind == _UNREACHABLE and quoted[16:20] == IPv4Address(self._address).packed
            if ours and quoted[24:26] == self._ident.to_bytes(2):
                too_big = f"{sender} takes at most {number} bytes"
                self._error = too_big if code == _TOO_BIG else f"{sender} says: unreachable"
        return 0


def connect(spaces: Namespaces, task_id: TaskId, address: str, port: int) -> ConnectionFact:
    """Open and close a TCP connection from the task's namespace."""
    began = time.monotonic_ns()
    try:
        with _socket(spaces, task_id, socket.SOCK_STREAM) as client:
            client.settimeout(CONNECT_TIMEOUT_S)
            client.connect((address, port))
            return ConnectionFact(address=address, elapsed=time.monotonic_ns() - began)
    except TimeoutError:
        error = f"no answer within {CONNECT_TIMEOUT_S:g} s"
    except OSError as failed:
        error = _text(failed)
    return ConnectionFact(address=address, error=error)


def listening_on(spaces: Namespaces, task_id: TaskId) -> tuple[str, ...]:
    """`address:port` of every TCP socket that listens in the namespace."""
    tables = []
    with spaces.entered(task_id):
        for name in ("tcp", "tcp6"):
            with suppress(FileNotFoundError):
                tables.append(Path(f"/proc/thread-self/net/{name}").read_bytes())
    return tuple(_sorted(pair for table in tables for pair in listeners(table)))


def _sorted(pairs: Iterable[tuple[str, int]]) -> Iterable[str]:
    for address, port in sorted(set(pairs), key=lambda pair: (pair[1], pair[0])):
        yield f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _socket(
    spaces: Namespaces, task_id: TaskId, kind: socket.SocketKind, protocol: int = 0
) -> socket.socket:
    with spaces.entered(task_id):
        return socket.socket(socket.AF_INET, kind, protocol)


def _text(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _checksum(packet: bytes) -> bytes:
    padded = packet + b"\0" * (len(packet) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    total = (total & 0xFFFF) + (total >> 16)
    inverse: int = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return inverse.to_bytes(2)
