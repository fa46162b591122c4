"""ctnetlink as bytes: forgetting the UDP flows that lead to a backend that left. PURE.

A UDP flow keeps the backend that its first datagram was given, for as long as it is used; nothing
else would ever move it. Numbers are those of <linux/netfilter/nfnetlink_conntrack.h>. Invariant:
every filter names UDP, and one virtual address of IPv4, so no flow of TCP is ever touched. The
kernel's filter by an address of IPv6 lets through just those that it should not: it is not used.
"""

import struct

from agent.network.message import DUMP, attribute, attributes, message
from agent.network.vips.nftables import INET6, UDP, Family

_SUBSYSTEM = 1 << 8
_GET, _DELETE = 1, 2
_NESTED = 0x8000
_ORIGINAL, _REPLY, _FILTER = 1, 2, 25
_BY_SOURCE, _BY_DESTINATION, _BY_PROTOCOL = 1, 2, 8


def _nest(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(parts))


def _tuple(kind: int, address: bytes) -> bytes:
    return _nest(kind, _nest(1, address), _nest(2, attribute(1, bytes((UDP,)))))


def _filter(original: int, reply: int) -> bytes:
    flags = (struct.pack("I", original), struct.pack("I", reply))
    return _nest(_FILTER, attribute(1, flags[0]), attribute(2, flags[1]))


def _source(family: Family, address: bytes) -> bytes:
    return attribute(3 if family is INET6 else 1, address)


def _destination(family: Family, address: bytes) -> bytes:
    return attribute(4 if family is INET6 else 2, address)


def _message(kind: int, flags: int, family: Family, *parts: bytes) -> bytes:
    head = bytes((family.nfproto, 0, 0, 0))
    return message(_SUBSYSTEM | kind, flags, head + b"".join(parts))


def forget(family: Family, vip: bytes, backend: bytes) -> bytes:
    """Forget the UDP flows to the virtual address, of IPv4, that go to this backend.

    Kernels older than about 6.11 refuse it as invalid; `dump` and `forget_flow` do the same there.
    """
    original = _tuple(_ORIGINAL, _destination(family, vip))
    reply = _tuple(_REPLY, _source(family, backend))
    flags = _filter(_BY_DESTINATION | _BY_PROTOCOL, _BY_SOURCE | _BY_PROTOCOL)
    return _message(_DELETE, 0, family, original, reply, flags)


def dump(family: Family, vip: bytes) -> bytes:
    """Ask for all UDP flows to the virtual address, of IPv6 for all there are."""
    original = _tuple(_ORIGINAL, _destination(family, vip))
    by_address = 0 if family is INET6 else _BY_DESTINATION
    return _message(_GET, DUMP, family, original, _filter(by_address | _BY_PROTOCOL, 0))


def backend_of(family: Family, vip: bytes, flow: bytes) -> bytes:
    """Where a dumped flow goes; empty if it is not UDP to the virtual address.

    (A kernel before 5.8 does not filter.)
    """
    found = attributes(flow, 4)
    original = attributes(found.get(_ORIGINAL, b""), 0)
    to = attributes(original.get(1, b""), 0).get(4 if family is INET6 else 2)
    protocol = attributes(original.get(2, b""), 0).get(1)
    if to != vip or protocol != bytes((UDP,)):
        return b""
    reply = attributes(found.get(_REPLY, b""), 0)
    return attributes(reply.get(1, b""), 0).get(3 if family is INET6 else 1, b"")


def forget_flow(family: Family, flow: bytes) -> bytes:
    """Forget one flow, as it was dumped."""
    return _message(_DELETE, 0, family, _nest(_ORIGINAL, attributes(flow, 4)[_ORIGINAL]))
