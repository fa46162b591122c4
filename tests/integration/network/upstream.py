"""Name servers of all kinds, for tests of forwarding: they have one name, `db.example`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from agent.network.dns.forward import HostServers
from tests.fixtures.ports import free_port

Replies = Callable[[dns.message.Message], list[bytes]]


def honest(query: dns.message.Message) -> list[bytes]:
    """One address; an unusual order and an extra record prove that the answer is relayed
    unchanged.
    """
    reply = dns.message.make_response(query)
    name = query.question[0].name
    reply.answer.append(dns.rrset.from_text(name, 77, "IN", "A", "192.0.2.7"))
    reply.additional.append(dns.rrset.from_text("by.example.", 5, "IN", "TXT", '"upstream"'))
    return [reply.to_wire()]


def silent(query: dns.message.Message) -> list[bytes]:
    """Never answers."""
    return []


def failing(query: dns.message.Message) -> list[bytes]:
    """Answers SERVFAIL."""
    reply = dns.message.make_response(query)
    reply.set_rcode(dns.rcode.SERVFAIL)
    return [reply.to_wire()]


def unknowing(query: dns.message.Message) -> list[bytes]:
    """Answers NXDOMAIN."""
    reply = dns.message.make_response(query)
    reply.set_rcode(dns.rcode.NXDOMAIN)
    return [reply.to_wire()]


def lying(query: dns.message.Message) -> list[bytes]:
    """Answers to other questions, and garbage; the valid answer comes last."""
    (truth,) = honest(query)
    other = dns.message.make_query("bank.example", "A", id=query.id)
    return [
        bytes((truth[0] ^ 255,)) + truth[1:],
        *honest(other),
        query.to_wire(),
        b"",
        b"rubbish",
        truth,
    ]


def terse(query: dns.message.Message) -> list[bytes]:
    """The whole answer does not fit into a datagram."""
    reply = dns.message.make_response(query)
    reply.flags |= dns.flags.TC
    return [reply.to_wire()]


class Upstream:
    """One server on one address; `asked` counts its datagrams, `streams` its connections."""

    def __init__(self, replies: Replies) -> None:
        self.replies = replies
        self.asked = 0
        self.streams = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None

    def error_received(self, error: Exception) -> None:
        """The client closed the connection."""

    def datagram_received(self, raw: bytes, sender: Any) -> None:
        self.asked += 1
        for reply in self.replies(dns.message.from_wire(raw)):
            if self._transport:
                self._transport.sendto(reply, sender)

    async def stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.streams += 1
        raw = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
        (reply,) = honest(dns.message.from_wire(raw))
        writer.write(len(reply).to_bytes(2) + reply)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def upstreams(
    resolv_conf: Path, *characters: Replies | None
) -> AsyncIterator[tuple[HostServers, list[Upstream]]]:
    """Servers on 127.0.0.1, 127.0.0.2 and so on, and the file that lists them. None: no server
    listens there.
    """
    loop = asyncio.get_running_loop()
    servers = [Upstream(character or silent) for character in characters]
    port = free_port()
    open_: list[Any] = []
    lines = []
    for number, (server, character) in enumerate(zip(servers, characters, strict=True), 1):
        address = f"127.0.0.{number}"
        lines.append(f"nameserver {address}\n")
        if character is not None:
            made = await loop.create_datagram_endpoint(lambda s=server: s, (address, port))  # type: ignore[misc]
            open_.append(made[0])
            open_.append(await asyncio.start_server(server.stream, address, port))
    resolv_conf.write_text("".join(lines))
    try:
        yield HostServers(resolv_conf, port), servers
    finally:
        for each in open_:
            each.close()
