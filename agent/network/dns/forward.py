"""Forwards queries for names outside the fleet to other name servers. SHELL over sockets.

The answer is relayed unchanged; only a reply to the same question counts. Servers are tried in turn
with a time limit each, beginning with the one that answered last. Invariant: no socket outlives its
query.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path

from agent import etcfiles
from agent.network.dns import wire
from agent.network.dns.wire import Query

SERVERS_MAX = 3
"""The maximum number of servers to try, as in the C library."""
ATTEMPT_S = 1.5
"""Time limit per server. Three take less than the five seconds after which a task retries."""
PORT = 53

MakeSocket = Callable[[socket.AddressFamily, socket.SocketKind], Awaitable[socket.socket]]
"""Creates a non-blocking socket in the namespace from which the servers are reached."""

# After such an answer the next server is tried.
_UNHELPFUL = (wire.SERVER_FAILURE, wire.NOT_IMPLEMENTED, wire.REFUSED)


class Upstream:
    """Name servers, in the order in which they are tried."""

    def __init__(self, servers: tuple[str, ...], make: MakeSocket, port: int = PORT) -> None:
        self.servers = servers[:SERVERS_MAX]
        self._make = make
        self._port = port
        self._first = 0

    async def ask(self, query: Query, *, whole: bool) -> bytes | None:
        """The answer of the first server that has one; None: no server answered in time.

        `whole`: the client accepts any length, so a truncated answer is requested again over TCP.
        """
        unhelpful = None
        for number in range(len(self.servers)):
            place = (self._first + number) % len(self.servers)
            try:
                async with asyncio.timeout(ATTEMPT_S):
                    reply = await self._exchange(self.servers[place], query, whole=whole)
            except (OSError, EOFError):
                continue
            if wire.code_of(reply) not in _UNHELPFUL:
                self._first = place
                return reply
            unhelpful = unhelpful or reply
        return unhelpful

    async def _exchange(self, server: str, query: Query, *, whole: bool) -> bytes:
        reply = await self._by_datagram(server, query)
        if whole and wire.is_truncated(reply):
            return await self._by_stream(server, query)
        return reply

    async def _by_datagram(self, server: str, query: Query) -> bytes:
        loop = asyncio.get_running_loop()
        with closing(await self._make(_family(server), socket.SOCK_DGRAM)) as asking:
            # Connected: the kernel drops other senders' datagrams, and reports a closed port at
            # once.
            asking.connect((server, self._port))
            asking.send(query.raw)
            while True:
                reply = await loop.sock_recv(asking, wire.TCP_BYTES)
                if wire.is_reply(query, reply):
                    return reply

    async def _by_stream(self, server: str, query: Query) -> bytes:
        loop = asyncio.get_running_loop()
        with closing(await self._make(_family(server), socket.SOCK_STREAM)) as asking:
            await loop.sock_connect(asking, (server, self._port))
            await loop.sock_sendall(asking, len(query.raw).to_bytes(2) + query.raw)
            while True:
                length = int.from_bytes(await _exactly(asking, 2))
                reply = await _exactly(asking, length)
                if wire.is_reply(query, reply):
                    return reply


class HostServers:
    """The host's own name servers, reached from the host's namespace: also those on its
    loopback.
    """

    def __init__(self, resolv_conf: Path, port: int = PORT) -> None:
        self._path = resolv_conf
        self._port = port
        self._stamp: tuple[int, int] | None = None
        self._upstream = Upstream((), _plain_socket, port)

    def upstream(self) -> Upstream:
        """The servers that the file names now."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return self._upstream
        stamp = found.st_mtime_ns, found.st_ino
        if stamp != self._stamp:
            self._stamp = stamp
            servers = etcfiles.nameservers(self._path.read_text(errors="replace"))
            self._upstream = Upstream(servers, _plain_socket, self._port)
        return self._upstream


async def _plain_socket(family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
    made = socket.socket(family, kind)
    made.setblocking(False)
    return made


async def _exactly(sock: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes; EOFError if the other side closes before."""
    loop = asyncio.get_running_loop()
    parts: list[bytes] = []
    while count:
        part = await loop.sock_recv(sock, count)
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _family(server: str) -> socket.AddressFamily:
    is_six = ip_address(server.partition("%")[0]).version == 6
    return socket.AF_INET6 if is_six else socket.AF_INET
