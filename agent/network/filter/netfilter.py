"""nfnetlink as bytes: conntrack's UDP flows, nft's base chains and one counter of it. PURE.

Numbers are those of <linux/netfilter/nfnetlink_conntrack.h> and <linux/netfilter/nf_tables.h>;
integers inside attributes are big-endian. Invariant: a flow is only ever named as it was dumped.
"""

import struct

import msgspec

from agent.network.message import DUMP, attribute, attributes, message

AF_INET, AF_INET6 = 2, 10
_CONNTRACK, _NFTABLES = 1 << 8, 10 << 8
_GET_FLOW, _DROP_FLOW, _GET_CHAIN, _GET_OBJECT = 1, 2, 4, 19
_INET, _COUNTER = 1, 1
_NESTED = 0x8000
_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_ORIGINAL, _REPLY, _FILTER = 1, 2, 25
_BY_PROTOCOL, _BY_TARGET_PORT = 1 << 3, 1 << 5
_UDP = 17


class Flow(msgspec.Struct, frozen=True):
    """A UDP flow: the port its first datagram was sent to, and who answers, packed."""

    port: int
    answers: bytes
    original: bytes
    """Its name, as the kernel wrote it."""


def _nest(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(parts))


def _head(family: int) -> bytes:
    return bytes((family, 0, 0, 0))


def dump_flows(family: int, port: int) -> bytes:
    """Ask for the UDP flows to a port of any address. (A kernel before 5.8 names all flows.)"""
    protocol = attribute(1, bytes((_UDP,))) + attribute(3, port.to_bytes(2))
    flags = struct.pack("I", _BY_PROTOCOL | _BY_TARGET_PORT)
    wanted = _nest(_ORIGINAL, _nest(2, protocol))
    chosen = _nest(_FILTER, attribute(1, flags), attribute(2, struct.pack("I", 0)))
    return message(_CONNTRACK | _GET_FLOW, DUMP, _head(family) + wanted + chosen)


def read_flow(body: bytes) -> Flow | None:
    """A dumped flow; None if it is not UDP."""
    found = attributes(body, 4)
    original, reply = (attributes(found.get(kind, b""), 0) for kind in (_ORIGINAL, _REPLY))
    protocol = attributes(original.get(2, b""), 0)
    if protocol.get(1) != bytes((_UDP,)):
        return None
    source = attributes(reply.get(1, b""), 0)
    answers = source.get(1) or source.get(3, b"")
    return Flow(int.from_bytes(protocol.get(3, b"")), answers, found[_ORIGINAL])


def drop_flow(family: int, flow: Flow) -> bytes:
    """Forget a flow."""
    named = _nest(_ORIGINAL, flow.original)
    return message(_CONNTRACK | _DROP_FLOW, 0, _head(family) + named)


class BaseChain(msgspec.Struct, frozen=True):
    """A chain that the kernel calls by itself: `hook` is forward's 2, `drops` its policy."""

    family: str
    table: str
    name: str
    hook: int
    drops: bool


def dump_chains() -> bytes:
    """Ask for all chains of all tables."""
    return message(_NFTABLES | _GET_CHAIN, DUMP, _head(0))


def read_chain(body: bytes) -> BaseChain | None:
    """A dumped chain; None for one that only others lead to."""
    found = attributes(body, 4)
    if 4 not in found:
        return None
    number = attributes(found[4], 0).get(1, b"")
    table, name = (found.get(kind, b"").rstrip(b"\0").decode() for kind in (1, 3))
    drops = found.get(5) == b"\0\0\0\0"
    family = _FAMILIES.get(body[0], "other")
    return BaseChain(family, table, name, int.from_bytes(number), drops)


def get_counter(table: str, name: str) -> bytes:
    """Ask for a named counter of an inet table."""
    words = attribute(1, table.encode() + b"\0") + attribute(2, name.encode() + b"\0")
    kind = attribute(3, _COUNTER.to_bytes(4))
    return message(_NFTABLES | _GET_OBJECT, 0, _head(_INET) + words + kind)


def read_counter(body: bytes) -> int:
    """How many packets it counted."""
    data = attributes(attributes(body, 4).get(4, b""), 0)
    return int.from_bytes(data.get(2, b""))
