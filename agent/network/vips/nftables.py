"""nf_tables messages: the tables, chains, maps and rules in a task's namespace. PURE.

As in message.py for rtnetlink, builders return complete messages; `batch` joins them into one
transaction that can be sent unchanged into any number of namespaces. Numbers are those of
<linux/netfilter/nf_tables.h>; integers inside attributes are big-endian, unlike rtnetlink's.
Invariant: `nft list ruleset` prints the result as a person would have written it.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence

from agent.network.message import ACK, CREATE, DUMP, attribute, attributes, message

NFPROTO_INET, IPV4, NFPROTO_NETDEV, IPV6 = 1, 2, 5, 10
ICMP, TCP, UDP = 1, 6, 17

_SUBSYSTEM = 10 << 8
_NEWTABLE, _DELTABLE, _NEWCHAIN, _DELCHAIN, _NEWRULE = 0, 2, 3, 5, 6
_NEWSET, _NEWSETELEM, _GETSETELEM, _DELSETELEM, _GETGEN = 9, 12, 13, 14, 16
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_APPEND = 0x800
_NESTED = 0x8000

_INGRESS, _LOCAL_OUT, _DSTNAT = 0, 3, -100
_MAP, _DYNAMIC = 8, 0x20
_VERDICT, _GOTO = 0xFFFF_FF00, -4
_IPV4_ADDR, _IPV6_ADDR, _MARK = 7, 8, 19
_ETHERTYPE, _NFPROTO, _L4PROTO = 1, 15, 16
_NETWORK, _TRANSPORT = 1, 2
_FIRST, _SECOND, _FIRST_AND_A_WORD = 1, 2, 9
_CHECKSUMS = {ICMP: 2, UDP: 6, TCP: 16}
"""The offset of the checksum in each protocol's header."""
_ELEMENTS_PER_MESSAGE = 1000


def _nest(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(parts))


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, (value & 0xFFFF_FFFF).to_bytes(4))


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


class Family:
    """The differences between IPv4 and IPv6 addresses."""

    def __init__(self, nfproto: int, length: int, offset: int, datatype: int, second: int) -> None:
        self.nfproto = nfproto
        self.length = length
        self.offset = offset
        """Of the destination address in the packet's header."""
        self.datatype = datatype
        self.second = second
        """The register after that of an address."""


INET4 = Family(IPV4, 4, 16, _IPV4_ADDR, _FIRST_AND_A_WORD)
INET6 = Family(IPV6, 16, 24, _IPV6_ADDR, _SECOND)


class TableMessages:
    """Builds the messages about one table."""

    def __init__(self, name: str, nfproto: int = NFPROTO_INET) -> None:
        self._name = _text(1, name)
        self._nfproto = nfproto

    def _message(self, kind: int, flags: int, *parts: bytes) -> bytes:
        body = bytes((self._nfproto, 0, 0, 0)) + self._name + b"".join(parts)
        return message(_SUBSYSTEM | kind, flags, body)

    def make(self) -> bytes:
        """Create the table; one that exists stays."""
        return self._message(_NEWTABLE, CREATE, _u32(2, 0))

    def drop(self) -> bytes:
        """Remove the table and its content."""
        return self._message(_DELTABLE, 0)

    def output_chain(self, name: str, place: int) -> bytes:
        """Create a chain that sees the first packet of every connection that the namespace opens,
        unless a chain of an earlier place ends its evaluation.
        """
        hook = _nest(4, _u32(1, _LOCAL_OUT), _u32(2, _DSTNAT + place))
        return self._message(_NEWCHAIN, CREATE, _text(3, name), _text(7, "nat"), _u32(5, 1), hook)

    def ingress_chain(self, name: str, device: str) -> bytes:
        """Create a chain that sees all packets that enter by a device, before the hooks of IP."""
        hook = _nest(4, _u32(1, _INGRESS), _u32(2, 0), _text(3, device))
        return self._message(
            _NEWCHAIN, CREATE, _text(3, name), _text(7, "filter"), _u32(5, 1), hook
        )

    def chain(self, name: str) -> bytes:
        """Create a chain that rules and maps jump to."""
        return self._message(_NEWCHAIN, CREATE, _text(3, name))

    def drop_chain(self, name: str) -> bytes:
        """Remove a chain that nothing jumps to any more, and its rules."""
        return self._message(_DELCHAIN, 0, _text(3, name))

    def rule(self, chain: str, *expressions: bytes) -> bytes:
        """Append a rule to a chain."""
        return self._message(_NEWRULE, CREATE | _APPEND, _text(2, chain), _nest(4, *expressions))

    def verdict_map(self, name: str, number: int, family: Family) -> bytes:
        """Create a map: address → chain. `number` is unique in the transaction."""
        return self._map(name, number, (family.datatype, family.length), (_VERDICT, 0))

    def address_map(self, name: str, number: int, family: Family) -> bytes:
        """Create a map: address and a number (nft's `mark`, a number in the host's byte order) →
        address.
        """
        key = (family.datatype << 6 | _MARK, family.length + 4)
        return self._map(name, number, key, (family.datatype, family.length))

    def dynamic_set(self, name: str, number: int, family: Family) -> bytes:
        """Create a set of addresses that rules add to.

        The kernel limits it to 65,535 elements; with an explicit size it would allocate memory for
        all of them: 1 MiB each.
        """
        return self._message(
            _NEWSET, CREATE, _text(2, name), _u32(3, _DYNAMIC), _u32(4, family.datatype),
            _u32(5, family.length), _u32(10, number),
        )  # fmt: skip

    def _map(self, name: str, number: int, key: tuple[int, int], data: tuple[int, int]) -> bytes:
        return self._message(
            _NEWSET, CREATE, _text(2, name), _u32(3, _MAP), _u32(4, key[0]), _u32(5, key[1]),
            _u32(6, data[0]), _u32(7, data[1]), _u32(10, number),
        )  # fmt: skip

    def add(self, name: str, elements: Sequence[bytes]) -> list[bytes]:
        """Add elements to a map."""
        return self._elements(_NEWSETELEM, CREATE, name, elements)

    def remove(self, name: str, elements: Sequence[bytes]) -> list[bytes]:
        """Remove elements, given by their keys only, from a map."""
        return self._elements(_DELSETELEM, 0, name, elements)

    def look_up(self, name: str, key: bytes) -> bytes:
        """Request one element."""
        return self._message(_GETSETELEM, 0, _text(2, name), _nest(3, element(key)))

    def dump(self, name: str) -> bytes:
        """Request all elements of a map."""
        return self._message(_GETSETELEM, DUMP, _text(2, name))

    def _elements(self, kind: int, flags: int, name: str, elements: Sequence[bytes]) -> list[bytes]:
        # The length of an attribute has 16 bits.
        return [
            self._message(
                kind, flags, _text(2, name), _nest(3, *elements[start:][:_ELEMENTS_PER_MESSAGE])
            )
            for start in range(0, len(elements), _ELEMENTS_PER_MESSAGE)
        ]


def element(key: bytes, data: bytes = b"") -> bytes:
    """An element of a map: `data` is a value's or a verdict's."""
    return _nest(1, _nest(1, attribute(1, key)), data)


def value(data: bytes) -> bytes:
    """The value of an address map's element."""
    return _nest(2, attribute(1, data))


def verdict(chain: str) -> bytes:
    """The verdict of a verdict map's element."""
    return _nest(2, _nest(2, _u32(1, _GOTO), _text(2, chain)))


def read_elements(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The (key, value) pairs in one part of a dump; a verdict's value is empty."""
    offset, data = 0, attributes(body, 4).get(3, b"")
    while offset + 4 <= len(data):
        length = struct.unpack_from("H", data, offset)[0]
        found = attributes(data[offset : offset + length], 4)
        yield attributes(found[1], 0)[1], attributes(found.get(2, b""), 0).get(1, b"")
        offset += (length + 3) & ~3


def ask_generation() -> bytes:
    """Request the generation number, which every change of any table increments."""
    return message(_SUBSYSTEM | _GETGEN, 0, b"\0\0\0\0")


def read_generation(body: bytes) -> int:
    """The number in the answer."""
    return int.from_bytes(attributes(body, 4).get(1, b""))


def _expression(name: str, *parts: bytes) -> bytes:
    return _nest(1, _text(1, name), _nest(2, *parts))


def _is(data: bytes) -> bytes:
    return _expression("cmp", _u32(1, _FIRST), _u32(2, 0), _nest(3, attribute(1, data)))


def family_is(family: Family) -> bytes:
    """`meta nfproto`: the packet is of this family."""
    return _meta(_NFPROTO) + _is(bytes((family.nfproto,)))


def protocol_is(number: int) -> bytes:
    """`meta l4proto`: the packet carries this protocol."""
    return _meta(_L4PROTO) + _is(bytes((number,)))


def is_ipv4() -> bytes:
    """`meta protocol ip`: for tables that are not of an IP family."""
    return _meta(_ETHERTYPE) + _is(b"\x08\x00")


def destination_is(family: Family, address: bytes) -> bytes:
    """`ip daddr`: the packet's destination."""
    return _destination(family) + _is(address)


def source_is(family: Family, address: bytes) -> bytes:
    """`ip saddr`: the packet's source."""
    return _payload(_NETWORK, family.offset - family.length, family.length) + _is(address)


def word_is(offset: int, value: int) -> bytes:
    """`@th`: the two bytes at this offset of the transport header."""
    return _payload(_TRANSPORT, offset, 2) + _is(value.to_bytes(2))


def set_word(protocol: int, offset: int, value: int) -> bytes:
    """`@th … set`: write two bytes at this offset, and update the protocol's checksum."""
    written = _u32(2, _TRANSPORT), _u32(3, offset), _u32(4, 2), _u32(5, _FIRST)
    mended = _u32(6, 1), _u32(7, _CHECKSUMS[protocol])
    return _immediate(_FIRST, value.to_bytes(2)) + _expression("payload", *written, *mended)


def go_by_destination(family: Family, name: str) -> bytes:
    """`ip daddr vmap @name`: jump to the chain in the map."""
    return _destination(family) + _lookup(name, 0)


def change_to_any(family: Family, name: str, count: int) -> bytes:
    """`dnat ip to ip daddr . numgen random mod COUNT map @name`."""
    drawn = _u32(1, family.second), _u32(2, count), _u32(3, 1), _u32(4, 0)
    number = _expression("numgen", *drawn)
    nat = _expression("nat", _u32(1, 1), _u32(2, family.nfproto), _u32(3, _FIRST))
    return _destination(family) + number + _lookup(name, _FIRST) + nat


def add_destination(family: Family, name: str) -> bytes:
    """`add @name { ip daddr }`."""
    update = _expression("dynset", _text(1, name), _u32(3, 0), _u32(4, _FIRST))
    return _destination(family) + update


def reset() -> bytes:
    """`reject with tcp reset`."""
    return _expression("reject", _u32(1, 1), attribute(2, b"\0"))


def refuse() -> bytes:
    """`reject with icmpx port-unreachable`."""
    return _expression("reject", _u32(1, 2), attribute(2, b"\1"))


def _immediate(register: int, data: bytes) -> bytes:
    return _expression("immediate", _u32(1, register), _nest(2, attribute(1, data)))


def _meta(key: int) -> bytes:
    return _expression("meta", _u32(2, key), _u32(1, _FIRST))


def _payload(base: int, offset: int, length: int) -> bytes:
    return _expression("payload", _u32(1, _FIRST), _u32(2, base), _u32(3, offset), _u32(4, length))


def _destination(family: Family) -> bytes:
    return _payload(_NETWORK, family.offset, family.length)


def _lookup(name: str, into: int) -> bytes:
    return _expression("lookup", _text(1, name), _u32(2, _FIRST), _u32(3, into))


def batch(messages: Iterable[bytes]) -> bytes:
    """One transaction: the kernel applies all of it or nothing. The last message requests an
    acknowledgement.
    """
    changes = list(messages)
    last = bytearray(changes[-1])
    flags = struct.unpack_from("H", last, 6)[0]
    struct.pack_into("H", last, 6, flags | ACK)
    which = struct.pack("!BBH", 0, 0, 10)
    begin, end = message(_BATCH_BEGIN, 0, which), message(_BATCH_END, 0, which)
    return b"".join((begin, *changes[:-1], last, end))
