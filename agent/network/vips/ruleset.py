"""Services' virtual addresses as rules in a task's own network namespace. PURE.

There is one table per task, once its networks have virtual addresses: before that nothing in the
namespace is translated, and its packets bypass conntrack. A packet's cost does not depend on the
number of services or backends: the first packet of a connection looks up its destination in `vips`,
jumps to the chain for that *number* of backends, and looks up the address and a random index in
`backends`. So a service consists of elements of two maps, and a changed service removes some and
adds others.

Another table redirects DNS queries to the agent's port, at the loopback: the port of each packet is
rewritten as it enters, and so is that of the answer, so no connection is tracked.

Invariant: `change` from the programmed rules and `replacement` of everything result in the same
table, except that a table that was needed once stays until the next replacement: its connections
may still be open. A backend that stays keeps its index while the index is valid.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address
from itertools import zip_longest

import msgspec

from agent.network.base import RESOLVER_ADDRESS, RESOLVER_PORT, DesiredEndpoint, DesiredOverlay
from agent.network.vips import nftables
from agent.network.vips.nftables import (
    ICMP,
    INET4,
    INET6,
    NFPROTO_NETDEV,
    TCP,
    UDP,
    Family,
    TableMessages,
)
from pyswarm_core.addresses import address6

TABLE = TableMessages("pyswarm")
NAMES, AT_LOOPBACK = TableMessages("pyswarm", NFPROTO_NETDEV), "names"
"""The table and the chain that redirect DNS queries to the agent."""
OUTPUTS = "output", "output_again"
"""The base chain, twice: a packet that the kernel is processing while it exchanges chains leaves
the first without a match, and is translated by the second.
"""
_REFUSED = "refused"
_DNS_PORT = 53
_FROM, _TO = 0, 2
"""The offsets of the ports in a TCP or UDP header."""
_UNREACHABLE_TO = 8 + 20 + _TO
"""The offset, in an ICMP error, of the destination port of the packet that caused it (RFC 792)."""
_INDEX = struct.Struct("I")


class Vip(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual address and its backends, by index; the same for IPv6, empty without it."""

    address: str
    backends: tuple[str, ...] = ()
    address6: str = ""
    backends6: tuple[str, ...] = ()


class Ruleset(msgspec.Struct, frozen=True):
    """The content of one task's table. `dual`: a network of the task has IPv6."""

    vips: Mapping[str, Vip] = {}
    dual: bool = False


class RemovedBackend(msgspec.Struct, frozen=True):
    """A backend that a virtual address is no longer forwarded to, packed."""

    rules: "FamilyRules"
    vip: bytes
    backend: bytes


class FamilyRules:
    """One address family: the names of its maps and chains, and its half of a Vip."""

    def __init__(
        self, family: Family, suffix: str, half: Callable[[Vip], tuple[str, tuple[str, ...]]]
    ) -> None:
        self.family = family
        self.half = half
        self.vips, self.backends, self.udp = f"vips{suffix}", f"backends{suffix}", f"udp{suffix}"
        self._chain = "one_of_{}" + (f"_v{suffix}" if suffix else "")

    def chain(self, count: int) -> str:
        """The chain of the services with this number of backends."""
        return self._chain.format(count) if count else _REFUSED


_V4 = FamilyRules(INET4, "", lambda vip: (vip.address, vip.backends))
_V6 = FamilyRules(INET6, "6", lambda vip: (vip.address6, vip.backends6))
_EMPTY = Ruleset()


def families(ruleset: Ruleset) -> tuple[FamilyRules, ...]:
    """The families that the table has."""
    return (_V4, _V6) if ruleset.dual else (_V4,)


def vip(endpoint: DesiredEndpoint, overlay: DesiredOverlay | None, before: Vip | None) -> Vip:
    """An endpoint's virtual address; backends that stay keep the index that they had in
    `before`.
    """
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
    """`now`, in an order that differs from `before` in as few places as possible."""
    members = dict.fromkeys(now)
    kept = [address if address in members else "" for address in before[: len(members)]]
    held = frozenset(kept)
    fresh = (address for address in members if address not in held)
    return (*[address or next(fresh) for address in kept], *fresh)


def removed(before: Ruleset, now: Ruleset) -> list[RemovedBackend]:
    """The backends that were removed."""
    return [
        RemovedBackend(rules, _packed(address), _packed(backend))
        for rules in families(before)
        for address, old, new in _changed(rules, before, now)
        for backend in old or ()
        if backend not in (new or ())
    ]


def stale_backends(
    rules: FamilyRules, found: Iterable[tuple[bytes, bytes]], desired: Ruleset
) -> list[RemovedBackend]:
    """The backends among elements read from a namespace to which `desired` does not forward."""
    forwarded = {
        (_packed(address), _packed(backend))
        for address, _, backends in _changed(rules, _EMPTY, desired)
        for backend in backends or ()
    }
    pairs = ((place[: -_INDEX.size], backend) for place, backend in found)
    return [
        RemovedBackend(rules, vip, backend)
        for vip, backend in pairs
        if (vip, backend) not in forwarded
    ]


def replacement(ruleset: Ruleset, *, assume_udp: bool = False) -> bytes:
    """The transaction that rewrites the table, whatever it contained.

    `assume_udp`: the removed table may have recorded addresses with UDP flows.
    """
    messages = [*_names(), TABLE.make(), TABLE.drop()]
    if not ruleset.vips:
        return nftables.batch(messages)
    messages.append(TABLE.make())
    messages += (TABLE.output_chain(name, place) for place, name in enumerate(OUTPUTS))
    for number, rules in enumerate(families(ruleset)):
        family = rules.family
        messages.append(TABLE.verdict_map(rules.vips, 3 * number + 1, family))
        messages.append(TABLE.address_map(rules.backends, 3 * number + 2, family))
        messages.append(TABLE.dynamic_set(rules.udp, 3 * number + 3, family))
        lookup = nftables.family_is(family), nftables.go_by_destination(family, rules.vips)
        messages += (TABLE.rule(name, *lookup) for name in OUTPUTS)
    messages += _fixed_chains(families(ruleset))
    for rules in families(ruleset):
        messages += _difference(rules, _EMPTY, ruleset)
        if assume_udp:
            addresses = [_packed(address) for address, _, _ in _changed(rules, _EMPTY, ruleset)]
            messages += TABLE.add(rules.udp, [nftables.element(key) for key in addresses])
    return nftables.batch(messages)


def change(before: Ruleset, now: Ruleset) -> bytes:
    """The transaction that turns `before` into `now`; empty if they are equal."""
    if before.dual != now.dual or (now.vips and not before.vips):
        return replacement(now, assume_udp=bool(before.vips))
    messages = [m for rules in families(now) for m in _difference(rules, before, now)]
    return nftables.batch(messages) if messages else b""


def places(vip: bytes, elements: Mapping[bytes, bytes]) -> tuple[str, ...]:
    """The backends of a virtual address, from elements read from a namespace."""
    return tuple(
        str(ip_address(backend))
        for place, backend in sorted(elements.items())
        if place[: -_INDEX.size] == vip
    )


def _fixed_chains(all_rules: Iterable[FamilyRules]) -> list[bytes]:
    reset = nftables.protocol_is(TCP), nftables.reset()
    return [
        TABLE.chain(_REFUSED),
        TABLE.rule(_REFUSED, *reset),
        TABLE.rule(_REFUSED, nftables.refuse()),
        # NAT hooks run only if some rule translates, so one rule does even if all services refuse.
        *(message for rules in all_rules for message in _chain(rules, 1)),
    ]


def _names() -> list[bytes]:
    """Packets at the loopback are matched by one end: the resolver's address and port."""
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
        # Without an agent the port is closed, and the client must receive the ICMP error.
        translated(ICMP, _UNREACHABLE_TO, RESOLVER_PORT, _DNS_PORT),
    ]


_Backends = tuple[str, ...] | None


def _changed(
    rules: FamilyRules, before: Ruleset, now: Ruleset
) -> Iterator[tuple[str, _Backends, _Backends]]:
    """The virtual addresses that differ, with their backends; None: the address does not exist."""
    for key in {**before.vips, **now.vips}:
        old, new = before.vips.get(key), now.vips.get(key)
        if old is new:
            continue
        old_address, old_backends = rules.half(old) if old else ("", None)
        new_address, new_backends = rules.half(new) if new else ("", None)
        if address := old_address or new_address:
            yield address, old_backends, new_backends


def _counts(rules: FamilyRules, ruleset: Ruleset) -> set[int]:
    halves = map(rules.half, ruleset.vips.values())
    return {len(backends) for address, backends in halves if address and len(backends) > 1}


def _difference(rules: FamilyRules, before: Ruleset, now: Ruleset) -> list[bytes]:
    out_vips: list[bytes] = []
    out_backends: list[bytes] = []
    in_vips: list[bytes] = []
    in_backends: list[bytes] = []
    for address, old, new in _changed(rules, before, now):
        key = _packed(address)
        if _count(old) != _count(new):
            out_vips += [nftables.element(key)] if old is not None else []
            goal = nftables.verdict(rules.chain(len(new or ())))
            in_vips += [nftables.element(key, goal)] if new is not None else []
        for index, (current, target) in enumerate(zip_longest(old or (), new or (), fillvalue="")):
            if current == target:
                continue
            place = key + _INDEX.pack(index)
            out_backends += [nftables.element(place)] if current else []
            goal = nftables.value(_packed(target)) if target else b""
            in_backends += [nftables.element(place, goal)] if target else []
    had, has = _counts(rules, before), _counts(rules, now)
    return [
        *(message for count in sorted(has - had) for message in _chain(rules, count)),
        *TABLE.remove(rules.vips, out_vips),
        *TABLE.remove(rules.backends, out_backends),
        *TABLE.add(rules.backends, in_backends),
        *TABLE.add(rules.vips, in_vips),
        *(TABLE.drop_chain(rules.chain(count)) for count in sorted(had - has)),
    ]


def _count(backends: _Backends) -> int:
    return -1 if backends is None else len(backends)


def _chain(rules: FamilyRules, count: int) -> list[bytes]:
    name, family = rules.chain(count), rules.family
    ours = nftables.family_is(family)
    record = nftables.protocol_is(UDP), nftables.add_destination(family, rules.udp)
    choice = nftables.change_to_any(family, rules.backends, count)
    return [
        TABLE.chain(name),
        TABLE.rule(name, ours, *record),
        TABLE.rule(name, ours, choice),
    ]


@lru_cache(maxsize=16384)
def _packed(address: str) -> bytes:
    return ip_address(address).packed
