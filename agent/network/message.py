"""rtnetlink messages: those that the agent sends and the four kinds that it reads. PURE.

Own code, because a general library's objects cost more than the whole budget of a container's start
(docs/decisions/0004-own-rtnetlink.md has the figures). Builders return complete messages without a
sequence number, which the socket fills in. Numbers are those of <linux/rtnetlink.h>,
<linux/if_link.h> and <linux/neighbour.h>.
"""

import struct
from collections.abc import Iterator
from ipaddress import IPv6Address

from agent.network.state import DeviceAddress, Fdb, Link, Neighbour, Route, Rule

HEADER = struct.Struct("IHHII")  # length, type, flags, sequence, port
_ATTR = struct.Struct("HH")
_IFINFO = struct.Struct("BxHiII")
_IFADDR = struct.Struct("BBBBi")
_RTMSG = struct.Struct("BBBBBBBBI")
_NDMSG = struct.Struct("BxxxiHBB")
_RULEHDR = struct.Struct("BBBBBBBBI")
_U32 = struct.Struct("I")

NEWLINK, DELLINK, GETLINK = 16, 17, 18
NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
NEWNEIGH, DELNEIGH, GETNEIGH = 28, 29, 30
NEWRULE, DELRULE, GETRULE = 32, 33, 34

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
REPLACE, EXCLUSIVE, CREATE = 0x100, 0x200, 0x400

AF_BRIDGE, AF_INET, AF_INET6 = 7, 2, 10
ROUTE_PROTOCOL = 97
"""Marks the fleet's routes (`proto 97`); routes of others are ignored."""
_UP = 1
_MAIN_TABLE = 254
_LOOK_UP, _GO_TO, _LANDING = 1, 2, 3
_SCOPE_LINK = 253
_UNICAST, _UNREACHABLE = 1, 7
_ONLINK = 4
_TENTATIVE, _DUPLICATE = 0x40, 0x08
_PERMANENT, _NOARP = 0x80, 0x40
_NTF_SELF = 2
_NO_PREFIX_ROUTE, _NOBODY_ELSES = 0x200, 0x02
_METRIC6 = 1024
"""The kernel's metric for an IPv6 route that specifies none."""


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTR.pack(len(value) + 4, kind) + value + b"\0" * (-len(value) % 4)


def attributes(data: bytes, offset: int) -> dict[int, bytes]:
    """The attributes from `offset` on; flag bits of the kind are removed."""
    found = {}
    end = len(data)
    while offset + 4 <= end:
        length, kind = _ATTR.unpack_from(data, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def message(kind: int, flags: int, body: bytes) -> bytes:
    """A request; the socket adds its sequence number."""
    return HEADER.pack(16 + len(body), kind, flags | REQUEST, 0, 0) + body


def split(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The (type, sequence, body) of each message in a datagram."""
    offset = 0
    while offset + 16 <= len(data):
        length, kind, _, sequence, _ = HEADER.unpack_from(data, offset)
        yield kind, sequence, data[offset + 16 : offset + length]
        offset += (length + 3) & ~3


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, _U32.pack(value))


def _ip(kind: int, value: str) -> bytes:
    if ":" in value:
        return attribute(kind, IPv6Address(value).packed)
    return attribute(kind, bytes(map(int, value.split("."))))


def _family(value: str) -> int:
    return AF_INET6 if ":" in value else AF_INET


def _mac(kind: int, value: str) -> bytes:
    return attribute(kind, bytes.fromhex(value.replace(":", "")))


def _ifinfo(index: int = 0, up: bool | None = None) -> bytes:
    return _IFINFO.pack(0, 0, index, _UP if up else 0, 0 if up is None else _UP)


# RTEXT_FILTER_SKIP_STATS
_NO_COUNTERS = _u32(29, 8)


# The options of each kind of device: attributes inside IFLA_INFO_DATA.
def _bridge_data() -> bytes:
    forward_delay, stp_state, snooping = _u32(1, 0), _u32(5, 0), attribute(23, b"\0")
    return forward_delay + stp_state + snooping


def _vxlan_data(link: Link) -> bytes:
    vni, local = _u32(1, link.vni), _ip(4, link.local)
    learning, port = attribute(7, b"\0"), attribute(15, link.port.to_bytes(2))
    # No checksum of the outer packet, as RFC 7348 recommends: the inner packet has its own.
    checksum = attribute(18, b"\0")
    return vni + local + learning + port + checksum


def make_link(link: Link) -> bytes:
    """Create a bridge or VXLAN device, up."""
    data = _vxlan_data(link) if link.kind == "vxlan" else _bridge_data()
    info = attribute(18, _text(1, link.kind) + attribute(2, data))
    body = _ifinfo(up=True) + _text(3, link.name) + _mac(1, link.mac) + _u32(4, link.mtu) + info
    return message(NEWLINK, CREATE | EXCLUSIVE, body)


def set_link(index: int, link: Link) -> bytes:
    """Set a device's MTU, and its MAC if one is given, and set it up."""
    mac = _mac(1, link.mac) if link.mac else b""
    return message(NEWLINK, 0, _ifinfo(index, True) + mac + _u32(4, link.mtu))


def set_alias(name: str, alias: str) -> bytes:
    """Set the text that `ip link` shows below a device."""
    return message(NEWLINK, 0, _ifinfo() + _text(3, name) + _text(20, alias))


def drop_link(index: int) -> bytes:
    """Delete a device; its addresses, routes, neighbours and FDB entries are deleted with it."""
    return message(DELLINK, 0, _ifinfo(index))


def drop_link_named(name: str) -> bytes:
    """Delete a device that may not exist; see `drop_link`."""
    return message(DELLINK, 0, _ifinfo() + _text(3, name))


def get_link(name: str) -> bytes:
    """Request one device, without its counters.

    The request makes the kernel process a change of carrier at once; until then packets are
    dropped.
    """
    return message(GETLINK, 0, _ifinfo() + _text(3, name) + _NO_COUNTERS)


def make_veth(inside: Link, index: int, port: Link, host_fd: int) -> bytes:
    """Create a veth pair from a task's namespace: `inside` in it, with a chosen index; `port` in
    the host's.

    Neither end is up: both must exist first. (Only the first end of a pair can have a chosen index,
    so the pair is created from inside.)
    """
    far = _ifinfo() + _text(3, port.name) + _u32(4, port.mtu) + _u32(28, host_fd)
    info = attribute(18, _text(1, "veth") + attribute(2, attribute(1, far)))
    near = _text(3, inside.name) + _mac(1, inside.mac) + _u32(4, inside.mtu)
    return message(NEWLINK, CREATE | EXCLUSIVE, _ifinfo(index) + near + info)


def plug_in(name: str, master: int) -> bytes:
    """Attach a device to a bridge, and set it up."""
    return message(NEWLINK, 0, _ifinfo(up=True) + _text(3, name) + _u32(10, master))


def down(name: str) -> bytes:
    """Set a device down."""
    return message(NEWLINK, 0, _ifinfo(up=False) + _text(3, name))


def reflect(name: str) -> bytes:
    """Let a bridge port send packets back to where they came from (hairpin mode).

    With br_netfilter, a task's connection to itself by a published port of its host is bridged, not
    routed.
    """
    port = _text(4, "bridge") + attribute(5, attribute(4, b"\1"))
    return message(NEWLINK, 0, _ifinfo() + _text(3, name) + attribute(18, port))


def up(index: int) -> bytes:
    """Set a device up."""
    return message(NEWLINK, 0, _ifinfo(index, True))


def address(index: int, entry: DeviceAddress, *, add: bool = True) -> bytes:
    """Add or remove an address. The kernel adds no route for it: routes are part of the plan."""
    body = _address(index, entry.cidr)
    if not add:
        return message(DELADDR, 0, body)
    alone = _NOBODY_ELSES if _family(entry.cidr) == AF_INET6 else 0
    return message(NEWADDR, CREATE | REPLACE, body + _u32(8, _NO_PREFIX_ROUTE | alone))


def inside_address(index: int, cidr: str) -> bytes:
    """Add a task's own address, with the route to its block that the kernel derives from it."""
    body = _address(index, cidr)
    if _family(cidr) == AF_INET6:
        # Usable at once, without duplicate address detection: the address is unique.
        body += _u32(8, _NOBODY_ELSES)
    return message(NEWADDR, CREATE | EXCLUSIVE, body)


def _address(index: int, cidr: str) -> bytes:
    plain, _, length = cidr.partition("/")
    head = _IFADDR.pack(_family(plain), int(length), 0, 0, index)
    return head + _ip(2, plain) + _ip(1, plain)


def without_ipv6(index: int) -> bytes:
    """Disable automatic IPv6 addresses on a device that is not up yet."""
    mode = attribute(10, attribute(8, b"\1"))
    return message(NEWLINK, 0, _ifinfo(index) + attribute(26, mode))


def route(index: int, entry: Route, *, add: bool = True) -> bytes:
    """Add or remove a route."""
    target, _, length = entry.dst.partition("/")
    unreachable = not entry.device
    scope = 0 if unreachable or entry.via else _SCOPE_LINK
    flags = _ONLINK if entry.via and entry.onlink else 0
    kind = _UNREACHABLE if unreachable else _UNICAST
    table = 0 if entry.table else _MAIN_TABLE
    family = _family(target)
    scope = scope if family == AF_INET else 0
    body = _RTMSG.pack(family, int(length), 0, 0, table, ROUTE_PROTOCOL, scope, kind, flags)
    body += _u32(15, entry.table) if entry.table else b""
    if int(length):
        body += _ip(1, target)
    if not unreachable:
        body += _u32(4, index)
    for number, value in ((5, entry.via), (7, entry.source)):
        body += _ip(number, value) if value else b""
    if entry.metric:
        body += _u32(6, entry.metric)
    if entry.mtu:
        body += attribute(8, _u32(2, entry.mtu))
    return message(NEWROUTE, CREATE | REPLACE, body) if add else message(DELROUTE, 0, body)


def rule(entry: Rule, *, add: bool = True) -> bytes:
    """Add or remove a routing rule."""
    action = _LOOK_UP if entry.table else _GO_TO if entry.goto else _LANDING
    family, whole = (AF_INET6, 128) if entry.six else (AF_INET, 32)
    source = whole if entry.source else 0
    body = _RULEHDR.pack(family, 0, source, 0, 0, 0, 0, action, 0) + _u32(6, entry.priority)
    body += _ip(2, entry.source) if entry.source else b""
    body += _text(3, entry.iif) if entry.iif else b""
    for number, value in ((10, entry.mark), (16, entry.mask), (15, entry.table), (4, entry.goto)):
        body += _u32(number, value) if value else b""
    body += attribute(21, bytes((ROUTE_PROTOCOL,)))
    return message(NEWRULE, CREATE | EXCLUSIVE, body) if add else message(DELRULE, 0, body)


def neighbour(index: int, entry: Neighbour, *, add: bool = True) -> bytes:
    """Add or remove a permanent neighbour: an address and its MAC."""
    family = _family(entry.address)
    body = _NDMSG.pack(family, index, _PERMANENT, 0, 0) + _ip(1, entry.address)
    if not add:
        return message(DELNEIGH, 0, body)
    return message(NEWNEIGH, CREATE | REPLACE, body + _mac(2, entry.mac))


def fdb(index: int, entry: Fdb, *, add: bool = True) -> bytes:
    """Add or remove a permanent FDB entry: a MAC and its VTEP."""
    body = _NDMSG.pack(AF_BRIDGE, index, _PERMANENT | _NOARP, _NTF_SELF, 0) + _mac(2, entry.mac)
    if not add:
        return message(DELNEIGH, 0, body)
    return message(NEWNEIGH, CREATE | REPLACE, body + _ip(1, entry.vtep))


def dump_links() -> bytes:
    """Request all devices."""
    return message(GETLINK, DUMP, _ifinfo() + _NO_COUNTERS)


def dump_addresses(family: int = AF_INET) -> bytes:
    """Request all addresses of one family."""
    return message(GETADDR, DUMP, _IFADDR.pack(family, 0, 0, 0, 0))


def dump_routes(family: int = AF_INET) -> bytes:
    """Request the fleet's routes in all tables; the kernel leaves out all others."""
    body = _RTMSG.pack(family, 0, 0, 0, 0, ROUTE_PROTOCOL, 0, 0, 0)
    return message(GETROUTE, DUMP, body)


def get_route(address: str) -> bytes:
    """Request the route of the namespace's own packets to an address."""
    body = _RTMSG.pack(_family(address), 128 if ":" in address else 32, 0, 0, 0, 0, 0, 0, 0)
    return message(GETROUTE, 0, body + _ip(1, address))


def dump_rules(family: int = AF_INET) -> bytes:
    """Request all routing rules of one family."""
    return message(GETRULE, DUMP, _RULEHDR.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))


def dump_neighbours(family: int) -> bytes:
    """Request all neighbours (AF_INET, AF_INET6) or FDB entries (AF_BRIDGE)."""
    return message(GETNEIGH, DUMP, _NDMSG.pack(family, 0, 0, 0, 0))


def read_link(body: bytes) -> tuple[int, int, Link]:
    """(index, index of its master or 0, the device)."""
    index, flags = struct.unpack_from("iI", body, 4)
    found = attributes(body, 16)
    kind, vni, local, port, learning = "", 0, "", 0, False
    if raw := found.get(18):
        info = attributes(raw, 0)
        kind = info.get(1, b"").rstrip(b"\0").decode()
        if kind == "vxlan":
            data = attributes(info.get(2, b""), 0)
            vni = _number(data.get(1))
            local = _written(data.get(4))
            port = int.from_bytes(data.get(15, b""))
            learning = data.get(7, b"\0") != b"\0"
    name = found[3].rstrip(b"\0").decode()
    link = Link(
        name=name, kind=kind, mac=found.get(1, b"").hex(":"), mtu=_number(found.get(4)),
        up=bool(flags & _UP), vni=vni, local=local, port=port, learning=learning,
    )  # fmt: skip
    return index, _number(found.get(10)), link


def read_address(body: bytes) -> tuple[int, str]:
    """(index, address/prefix length)."""
    _, length, _, _, index = _IFADDR.unpack_from(body)
    found = attributes(body, 8)
    return index, f"{_written(found.get(2) or found.get(1))}/{length}"


def is_global(body: bytes) -> bool:
    """Whether an address is global unicast, and passed duplicate address detection."""
    _, _, flags, scope, _ = _IFADDR.unpack_from(body)
    return not scope and not flags & (_TENTATIVE | _DUPLICATE)


def read_route(body: bytes) -> tuple[int, Route] | None:
    """(index or 0, the route); None for one that is not the fleet's."""
    family, length, _, _, table, protocol, _, kind, flags = _RTMSG.unpack_from(body)
    if protocol != ROUTE_PROTOCOL or kind not in (_UNICAST, _UNREACHABLE):
        return None
    found = attributes(body, 12)
    six = family == AF_INET6
    dst = f"{_written(found.get(1)) or ('::' if six else '0.0.0.0')}/{length}"
    metric = _number(found.get(6))
    index = _number(found.get(4)) if kind == _UNICAST else 0
    table = _number(found.get(15)) or table
    return index, Route(
        dst=dst, via=_written(found.get(5)), source=_written(found.get(7)),
        metric=0 if six and metric == _METRIC6 else metric, onlink=bool(flags & _ONLINK),
        table=0 if table == _MAIN_TABLE else table,
        mtu=_number(attributes(found.get(8, b""), 0).get(2)),
    )  # fmt: skip


def read_choice(body: bytes) -> tuple[int, str, str]:
    """(index, next hop or "", source address) of the chosen route."""
    found = attributes(body, 12)
    return _number(found.get(4)), _written(found.get(5)), _written(found.get(7))


def read_rule(body: bytes) -> Rule | None:
    """The routing rule; None for one that is not the fleet's."""
    found = attributes(body, _RULEHDR.size)
    if found.get(21) != bytes((ROUTE_PROTOCOL,)):
        return None
    return Rule(
        priority=_number(found.get(6)), iif=found.get(3, b"").rstrip(b"\0").decode(),
        source=_written(found.get(2)),
        mark=_number(found.get(10)), mask=_number(found.get(16)), goto=_number(found.get(4)),
        table=_number(found.get(15)) if body[7] == _LOOK_UP else 0, six=body[0] == AF_INET6,
    )  # fmt: skip


def read_neighbour(body: bytes) -> tuple[int, str, str] | None:
    """(index, address, MAC) of a permanent neighbour, or (index, VTEP, MAC) of an FDB entry."""
    _, index, state, _, _ = _NDMSG.unpack_from(body)
    found = attributes(body, 12)
    if not state & _PERMANENT or 1 not in found or len(found.get(2, b"")) != 6:
        return None
    return index, _written(found[1]), found[2].hex(":")


def _number(raw: bytes | None) -> int:
    return int(_U32.unpack(raw)[0]) if raw else 0


def _written(raw: bytes | None) -> str:
    if raw and len(raw) == 16:
        return str(IPv6Address(raw))
    return ".".join(map(str, raw)) if raw and len(raw) == 4 else ""
