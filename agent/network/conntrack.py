"""ctnetlink messages: reads and deletes UDP flows. PURE.

A UDP flow stays with the task that its first datagram was sent to, for as long as it is used.
Numbers are those of <linux/netfilter/nfnetlink_conntrack.h>. Invariant: every request specifies
UDP, so no TCP connection is ever touched. A family is AF_INET or AF_INET6.
"""

import struct

import msgspec

from agent.network.message import AF_INET6, DUMP, attribute, attributes, message

_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2
_NESTED = 0x8000
_ORIGINAL, _REPLY, _FILTER = 1, 2, 25
_BY_SOURCE, _BY_DESTINATION, _BY_PROTOCOL, _BY_TARGET_PORT = 1 << 0, 1 << 1, 1 << 3, 1 << 5
_UDP = bytes((17,))


class Flow(msgspec.Struct, frozen=True):
    """The destination of a UDP flow's first datagram, and the address that answers, addresses
    packed.
    """

    address: bytes
    port: int
    answers: bytes
    original: bytes
    """The original direction as the kernel wrote it, which identifies the flow."""


def dump(family: int, *, address: bytes = b"", port: int = 0) -> bytes:
    """Request the UDP flows to an address, or to a port, or all.

    The answer may contain others: kernels before 5.8 do not filter, and none filters by an IPv6
    address (its filter returns exactly the wrong flows).
    """
    protocol, flags, to = attribute(1, _UDP), _BY_PROTOCOL, b""
    if port:
        protocol, flags = protocol + attribute(3, port.to_bytes(2)), flags | _BY_TARGET_PORT
    if address and family != AF_INET6:
        to, flags = _nest(1, attribute(2, address)), flags | _BY_DESTINATION
    return _message(_GET, DUMP, family, _nest(_ORIGINAL, to, _nest(2, protocol)), _filter(flags, 0))


def read(body: bytes) -> Flow | None:
    """A flow of a dump; None if it is not UDP."""
    found = attributes(body, 4)
    original, reply = (attributes(found.get(kind, b""), 0) for kind in (_ORIGINAL, _REPLY))
    protocol = attributes(original.get(2, b""), 0)
    if protocol.get(1) != _UDP:
        return None
    to, source = attributes(original.get(1, b""), 0), attributes(reply.get(1, b""), 0)
    return Flow(
        address=to.get(2) or to.get(4, b""),
        port=int.from_bytes(protocol.get(3, b"")),
        answers=source.get(1) or source.get(3, b""),
        original=found[_ORIGINAL],
    )


def forget(family: int, flow: Flow) -> bytes:
    """Delete one flow of a dump."""
    return _message(_DELETE, 0, family, _nest(_ORIGINAL, flow.original))


def forget_all(family: int, address: bytes, answers: bytes) -> bytes:
    """Delete the IPv4 flows to an address that `answers` answers.

    Kernels older than about 6.11 refuse it as invalid; `dump` and `forget` do the same there.
    """
    protocol = _nest(2, attribute(1, _UDP))
    original = _nest(_ORIGINAL, _nest(1, attribute(2, address)), protocol)
    reply = _nest(_REPLY, _nest(1, attribute(1, answers)), protocol)
    flags = _filter(_BY_DESTINATION | _BY_PROTOCOL, _BY_SOURCE | _BY_PROTOCOL)
    return _message(_DELETE, 0, family, original, reply, flags)


def _filter(original: int, reply: int) -> bytes:
    flags = attribute(1, struct.pack("I", original)) + attribute(2, struct.pack("I", reply))
    return _nest(_FILTER, flags)


def _nest(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(parts))


def _message(kind: int, flags: int, family: int, *parts: bytes) -> bytes:
    return message(kind, flags, bytes((family, 0, 0, 0)) + b"".join(parts))
