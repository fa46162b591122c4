"""Services' virtual addresses as rules in a task's own network namespace. PURE.

One table per task, once its networks have virtual addresses: before that nothing there is
translated, and what the task sends and gets is spared conntrack. A packet's cost does not depend
on how many services or backends there are: the first packet of a connection looks its destination
up in `vips`, which goes to the chain for that *number* of backends, which looks the address and a
random index up in `backends`. So a service is elements of two maps, and a changed service some
elements fewer and some more.

Questions for names are sent to the agent's port by another table, at the loopback: each packet has
its port changed as it comes in, and so has the answer, for which nobody need remember anything.

Invariant: `change` from what was programmed and `replacement` of everything lead to the same table,
but that one which was needed once stays until all is made anew: its connections may still end. A
backend that stays keeps its index while there is room for it.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address
from itertools import zip_longest

import msgspec

from agent.network.base import RESOLVER_ADDRESS, RESOLVER_PORT
from agent.network.base import DesiredEndpoint as EndpointWanted
from agent.network.base import DesiredOverlay as OverlayWanted
from agent.network.vips import nftables
from agent.network.vips.nftables import (
    ICMP,
    INET4,
    INET6,
    NFPROTO_NETDEV,
    TCP,
    UDP,
    Family,
    Table,
)
from pyswarm_core.addresses import address6

TABLE = Table("pyswarm")
NAMES, AT_LOOPBACK = Table("pyswarm", NFPROTO_NETDEV), "names"
"""The table and the chain that send questions for names to the agent."""
OUTPUTS = "output", "output_again"
"""The base chain, twice: a packet that is half-way through while the kernel exchanges chains falls
out of the first, and is translated by the second.
"""
_REFUSED = "refused"
_DNS_PORT = 53
_FROM, _TO = 0, 2
"""Where a header of TCP or UDP has its ports."""
_UNREACHABLE_TO = 8 + 20 + _TO
"""Where an ICMP error has the port that the packet it is about went to (RFC 792)."""
_INDEX = struct.Struct("I")


class Vip(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual address and the backends behind it, by index; IPv6 alike, empty without."""

    address: str
    backends: tuple[str, ...] = ()
    address6: str = ""
    backends6: tuple[str, ...] = ()


class Ruleset(msgspec.Struct, frozen=True):
    """All that one task's table says. `dual`: a network of the task has IPv6."""

    vips: Mapping[str, Vip] = {}
    dual: bool = False


class Gone(msgspec.Struct, frozen=True):
    """A backend that a virtual address is forwarded to no more, packed."""

    side: "Side"
    vip: bytes
    backend: bytes


class Side:
    """One family: the names of its objects, and its half of a Vip."""

    def __init__(
        self, family: Family, suffix: str, half: Callable[[Vip], tuple[str, tuple[str, ...]]]
    ) -> None:
        self.family = family
        self.half = half
        self.vips, self.backends, self.udp = f"vips{suffix}", f"backends{suffix}", f"udp{suffix}"
        self._chain = "one_of_{}" + (f"_v{suffix}" if suffix else "")

    def chain(self, count: int) -> str:
        """The chain of the services with so many backends."""
        return self._chain.format(count) if count else _REFUSED


_V4 = Side(INET4, "", lambda vip: (vip.address, vip.backends))
_V6 = Side(INET6, "6", lambda vip: (vip.address6, vip.backends6))
_EMPTY = Ruleset()


def sides(ruleset: Ruleset) -> tuple[Side, ...]:
    """The families that a table has."""
    return (_V4, _V6) if ruleset.dual else (_V4,)


def vip(endpoint: EndpointWanted, overlay: OverlayWanted | None, before: Vip | None) -> Vip:
    """An endpoint's virtual address; backends that stay keep the index they had `before`."""
    addresses = [backend.address for backend in endpoint.backends]
    places = placed(before.backends if before else (), addresses)
    if overlay is None or not overlay.subnet6:
        return Vip(address=endpoint.vip, backends=places)
    subnet, subnet6 = overlay.subnet, overlay.subnet6
    return Vip(
        address=endpoint.vip,
        backends=places,
        address6=address6(subnet, subnet6, endpoint.vip),
        backends6=tuple(address6(subnet, subnet6, address) for address in places),
    )


def placed(before: Sequence[str], now: Iterable[str]) -> tuple[str, ...]:
    """`now` in an order that differs from `before` in as few places as can be."""
    members = dict.fromkeys(now)
    kept = [address if address in members else "" for address in before[: len(members)]]
    held = frozenset(kept)
    fresh = (address for address in members if address not in held)
    return (*[address or next(fresh) for address in kept], *fresh)


def gone(before: Ruleset, now: Ruleset) -> list[Gone]:
    """The backends that left."""
    return [
        Gone(side, _packed(address), _packed(backend))
        for side in sides(before)
        for address, old, new in _changed(side, before, now)
        for backend in old or ()
        if backend not in (new or ())
    ]


def strangers(side: Side, found: Iterable[tuple[bytes, bytes]], wanted: Ruleset) -> list[Gone]:
    """The backends among elements found in a namespace to which `wanted` does not forward."""
    forwarded = {
        (_packed(address), _packed(backend))
        for address, _, backends in _changed(side, _EMPTY, wanted)
        for backend in backends or ()
    }
    pairs = ((place[: -_INDEX.size], backend) for place, backend in found)
    return [Gone(side, vip, backend) for vip, backend in pairs if (vip, backend) not in forwarded]


def replacement(ruleset: Ruleset, *, assume_udp: bool = False) -> bytes:
    """The transaction that makes the table anew, whatever there was.

    `assume_udp`: there may be flows of UDP whose notes went with the old table.
    """
    messages = [*_names(), TABLE.make(), TABLE.drop()]
    if not ruleset.vips:
        return nftables.batch(messages)
    messages.append(TABLE.make())
    messages += (TABLE.output_chain(name, place) for place, name in enumerate(OUTPUTS))
    for number, side in enumerate(sides(ruleset)):
        family = side.family
        messages.append(TABLE.verdict_map(side.vips, 3 * number + 1, family))
        messages.append(TABLE.address_map(side.backends, 3 * number + 2, family))
        messages.append(TABLE.note_set(side.udp, 3 * number + 3, family))
        lookup = nftables.family_is(family), nftables.go_by_destination(family, side.vips)
        messages += (TABLE.rule(name, *lookup) for name in OUTPUTS)
    messages += _fixed_chains(sides(ruleset))
    for side in sides(ruleset):
        messages += _difference(side, _EMPTY, ruleset)
        if assume_udp:
            noted = [_packed(address) for address, _, _ in _changed(side, _EMPTY, ruleset)]
            messages += TABLE.add(side.udp, [nftables.element(key) for key in noted])
    return nftables.batch(messages)


def change(before: Ruleset, now: Ruleset) -> bytes:
    """The transaction that makes `now` of `before`; empty if nothing differs."""
    if before.dual != now.dual or (now.vips and not before.vips):
        return replacement(now, assume_udp=bool(before.vips))
    messages = [m for side in sides(now) for m in _difference(side, before, now)]
    return nftables.batch(messages) if messages else b""


def places(vip: bytes, elements: Mapping[bytes, bytes]) -> tuple[str, ...]:
    """Where a virtual address is forwarded to, by elements found in a namespace."""
    return tuple(
        str(ip_address(backend))
        for place, backend in sorted(elements.items())
        if place[: -_INDEX.size] == vip
    )


def _fixed_chains(table_sides: Iterable[Side]) -> list[bytes]:
    reset = nftables.protocol_is(TCP), nftables.reset()
    return [
        TABLE.chain(_REFUSED),
        TABLE.rule(_REFUSED, *reset),
        TABLE.rule(_REFUSED, nftables.refuse()),
        # Hooks of nat see nothing where no rule translates, so one does even if all refuse.
        *(message for side in table_sides for message in _chain(side, 1)),
    ]


def _names() -> list[bytes]:
    """What comes in at the loopback is told apart by one end: the resolver's address and port."""
    resolver = _packed(RESOLVER_ADDRESS)
    asked = nftables.is_ipv4(), nftables.destination_is(INET4, resolver)
    answered = nftables.is_ipv4(), nftables.source_is(INET4, resolver)

    def translated(protocol: int, offset: int, port: int, instead: int) -> bytes:
        end = answered if port == RESOLVER_PORT else asked
        match = nftables.protocol_is(protocol), nftables.word_is(offset, port)
        goal = nftables.set_word(protocol, offset, instead)
        return NAMES.rule(AT_LOOPBACK, *end, *match, goal)

    return [
        NAMES.make(),
        NAMES.drop(),
        NAMES.make(),
        NAMES.ingress_chain(AT_LOOPBACK, "lo"),
        *(translated(protocol, _TO, _DNS_PORT, RESOLVER_PORT) for protocol in (UDP, TCP)),
        *(translated(protocol, _FROM, RESOLVER_PORT, _DNS_PORT) for protocol in (UDP, TCP)),
        # Without an agent the port is closed, and who asked shall hear it at once.
        translated(ICMP, _UNREACHABLE_TO, RESOLVER_PORT, _DNS_PORT),
    ]


_Backends = tuple[str, ...] | None


def _changed(
    side: Side, before: Ruleset, now: Ruleset
) -> Iterator[tuple[str, _Backends, _Backends]]:
    """The virtual addresses that differ, with their backends; None: not there."""
    for key in {**before.vips, **now.vips}:
        old, new = before.vips.get(key), now.vips.get(key)
        if old is new:
            continue
        old_address, old_backends = side.half(old) if old else ("", None)
        new_address, new_backends = side.half(new) if new else ("", None)
        if address := old_address or new_address:
            yield address, old_backends, new_backends


def _counts(side: Side, ruleset: Ruleset) -> set[int]:
    halves = map(side.half, ruleset.vips.values())
    return {len(backends) for address, backends in halves if address and len(backends) > 1}


def _difference(side: Side, before: Ruleset, now: Ruleset) -> list[bytes]:
    out_vips: list[bytes] = []
    out_backends: list[bytes] = []
    in_vips: list[bytes] = []
    in_backends: list[bytes] = []
    for address, old, new in _changed(side, before, now):
        key = _packed(address)
        if _count(old) != _count(new):
            out_vips += [nftables.element(key)] if old is not None else []
            goal = nftables.verdict(side.chain(len(new or ())))
            in_vips += [nftables.element(key, goal)] if new is not None else []
        for index, (was, shall) in enumerate(zip_longest(old or (), new or (), fillvalue="")):
            if was == shall:
                continue
            place = key + _INDEX.pack(index)
            out_backends += [nftables.element(place)] if was else []
            goal = nftables.value(_packed(shall)) if shall else b""
            in_backends += [nftables.element(place, goal)] if shall else []
    had, has = _counts(side, before), _counts(side, now)
    return [
        *(message for count in sorted(has - had) for message in _chain(side, count)),
        *TABLE.remove(side.vips, out_vips),
        *TABLE.remove(side.backends, out_backends),
        *TABLE.add(side.backends, in_backends),
        *TABLE.add(side.vips, in_vips),
        *(TABLE.drop_chain(side.chain(count)) for count in sorted(had - has)),
    ]


def _count(backends: _Backends) -> int:
    return -1 if backends is None else len(backends)


def _chain(side: Side, count: int) -> list[bytes]:
    name, family = side.chain(count), side.family
    ours = nftables.family_is(family)
    note = nftables.protocol_is(UDP), nftables.note_destination(family, side.udp)
    choice = nftables.change_to_any(family, side.backends, count)
    return [
        TABLE.chain(name),
        TABLE.rule(name, ours, *note),
        TABLE.rule(name, ours, choice),
    ]


@lru_cache(maxsize=16384)
def _packed(address: str) -> bytes:
    return ip_address(address).packed
