"""nf_tables messages: all tables' base chains, and a counter. PURE; nothing here changes a table.

Numbers are those of <linux/netfilter/nf_tables.h>; integers inside attributes are big-endian.
"""

import msgspec

from agent.network.message import DUMP, attribute, attributes, message

_NFTABLES = 10 << 8
_GET_CHAIN, _GET_OBJECT = 4, 19
_INET, _COUNTER = 1, 1
_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}


def _head(family: int) -> bytes:
    return bytes((family, 0, 0, 0))


class BaseChain(msgspec.Struct, frozen=True):
    """A chain attached to a hook of the kernel: `hook` 2 is forward; `drops`: its policy is
    drop.
    """

    family: str
    table: str
    name: str
    hook: int
    drops: bool


def dump_chains() -> bytes:
    """Request all chains of all tables."""
    return message(_NFTABLES | _GET_CHAIN, DUMP, _head(0))


def read_chain(body: bytes) -> BaseChain | None:
    """A chain of a dump; None if it is not a base chain."""
    found = attributes(body, 4)
    if 4 not in found:
        return None
    number = attributes(found[4], 0).get(1, b"")
    table, name = (found.get(kind, b"").rstrip(b"\0").decode() for kind in (1, 3))
    drops = found.get(5) == b"\0\0\0\0"
    family = _FAMILIES.get(body[0], "other")
    return BaseChain(family, table, name, int.from_bytes(number), drops)


def get_counter(table: str, name: str) -> bytes:
    """Request a named counter of an inet table."""
    words = attribute(1, table.encode() + b"\0") + attribute(2, name.encode() + b"\0")
    kind = attribute(3, _COUNTER.to_bytes(4))
    return message(_NFTABLES | _GET_OBJECT, 0, _head(_INET) + words + kind)


def read_counter(body: bytes) -> int:
    """The number of packets that it counted."""
    data = attributes(attributes(body, 4).get(4, b""), 0)
    return int.from_bytes(data.get(2, b""))
