"""Holds a task's way to an address against what it should be. PURE: what was seen in, checks out.

Each check belongs to the hop that it matters to (`task`, `host`, `mtu` or `rules`) and shows both
sides in `ip`'s words. Invariant: on an undisturbed host every check is as wanted.
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from agent.network.base import OverlayWanted, Peer
from agent.network.encryption.ipsec import is_encrypted
from agent.network.names import Names, next_hop
from agent.network.overlay.plug import Plug
from agent.network.state import Address, KernelState, Link, Neighbour, Route
from pyswarm_core.traces import Check

T = TypeVar("T")


class Inside(msgspec.Struct, frozen=True):
    """What a task's namespace holds; `route` is the kernel's own choice for the address."""

    links: dict[str, Link] = {}
    addresses: frozenset[Address] = frozenset()
    neighbours: frozenset[Neighbour] = frozenset()
    route: Route | None = None


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """All that was read for one way."""

    address: str
    """Where it leads."""
    overlay: OverlayWanted
    plug: Plug
    want: KernelState
    found: KernelState
    links: dict[str, Link]
    """The host's, by name."""
    inside: Inside
    route: Route | None
    """The host's choice for the address."""
    paired: bool
    """The host's rules let the pair pass as one network."""
    disturbed: bool
    """The host's table is not as it was programmed."""
    unsealed: tuple[str, ...] = ()
    """What is wrong with the encryption between hosts."""


def checks(seen: Seen, names: Names) -> tuple[Check, ...]:
    """Everything on the way, in a packet's order."""
    host = (*_host(seen, names), *_mtu(seen, names), *_rules(seen, names))
    return (*_task(seen), *_mtu_of_task(seen), *(replace(check, heals=True) for check in host))


def is_local(overlay: OverlayWanted, address: str) -> bool:
    """Whether tasks of this host have such addresses."""
    return _within(address, overlay.local_blocks)


def _task(seen: Seen) -> Iterator[Check]:
    plug, inside = seen.plug, seen.inside
    name = plug.inside.name
    link = inside.links.get(name)
    has = Address(name, plug.cidr) in inside.addresses
    found = " ".join(filter(None, (plug.cidr if has else "no address", _up(link)))) if link else ""
    yield Check(hop="task", what=name, wanted=f"{plug.cidr} up", found=found)
    near = _within(seen.address, (str(IPv4Network(plug.cidr, strict=False)),))
    via = "" if near else plug.gateway.address
    what = f"the task's route to {seen.address}"
    yield Check(hop="task", what=what, wanted=_way(via, name), found=_route(inside.route))
    if via:
        mac = _mac(inside.neighbours, name, via)
        what = f"the task's neighbour {via}"
        yield Check(hop="task", what=what, wanted=plug.gateway.mac, found=mac)
    port = seen.links.get(plug.port.name)
    master = seen.found.ports.get(plug.port.name, "")
    found = f"{_up(port)} on {master or 'no bridge'}" if port else ""
    wanted, heals = f"up on {plug.bridge}", port is None or port.up
    yield Check(hop="task", what=plug.port.name, wanted=wanted, found=found, heals=heals)


def _host(seen: Seen, names: Names) -> Iterator[Check]:
    overlay, want, found = seen.overlay, seen.want, seen.found
    bridge, vxlan = names.bridge(overlay.network_id), names.vxlan(overlay.network_id)
    local = is_local(overlay, seen.address)
    on_the_way = (bridge,) if local else (bridge, vxlan)
    for name in on_the_way:
        wanted, there = want.links.get(name), found.links.get(name)
        if wanted:
            yield Check(hop="host", what=name, wanted=_link(wanted), found=_link(there))
    for address in _sorted(a for a in want.addresses if a.device == bridge):
        held = address.cidr if address in found.addresses else ""
        yield Check(hop="host", what=f"address of {bridge}", wanted=address.cidr, found=held)
    settings = (s for s in want.settings if s.path.startswith("ipv4/"))
    for setting in _sorted(s for s in settings if s.device in ("", *on_the_way)):
        value = setting.value if setting in found.settings else f"not {setting.value}"
        yield Check(hop="host", what=setting.path, wanted=setting.value, found=value)
    peer = _peer(overlay, seen.address)
    if local:
        way = _way("", bridge)
    else:
        way = _way(next_hop(peer.node_number), vxlan) if peer else "a host that has its block"
    what = f"the host's route to {seen.address}"
    yield Check(hop="host", what=what, wanted=way, found=_route(seen.route))
    if peer and not local:
        yield from _peer_entries(seen, vxlan, peer)


def _peer_entries(seen: Seen, vxlan: str, peer: Peer) -> Iterator[Check]:
    via = next_hop(peer.node_number)
    wanted = _mac(seen.want.neighbours, vxlan, via)
    found = _mac(seen.found.neighbours, vxlan, via)
    yield Check(hop="host", what=f"neighbour {via} on {vxlan}", wanted=wanted, found=found)
    vteps = sorted(e.vtep for e in seen.found.fdb if e.device == vxlan and e.mac == wanted)
    what = f"FDB entry {wanted} on {vxlan}"
    yield Check(hop="host", what=what, wanted=f"dst {peer.address}", found=_vteps(vteps))
    if is_encrypted(seen.overlay):
        what, found = "encryption", ", ".join(seen.unsealed) or "as programmed"
        yield Check(hop="host", what=what, wanted="as programmed", found=found)


def _vteps(vteps: Iterable[str]) -> str:
    return ", ".join(f"dst {vtep}" for vtep in vteps)


def _mtu(seen: Seen, names: Names) -> Iterator[Check]:
    network = seen.overlay.network_id
    bridge, vxlan = names.bridge(network), names.vxlan(network)
    for name in (bridge,) if is_local(seen.overlay, seen.address) else (bridge, vxlan):
        yield from _mtu_of(seen.want.links.get(name), seen.found.links.get(name))


def _mtu_of_task(seen: Seen) -> Iterator[Check]:
    plug = seen.plug
    yield from _mtu_of(plug.inside, seen.inside.links.get(plug.inside.name))
    yield from _mtu_of(plug.port, seen.links.get(plug.port.name))


def _mtu_of(wanted: Link | None, there: Link | None) -> Iterator[Check]:
    if wanted and there:
        what = f"MTU of {wanted.name}"
        yield Check(hop="mtu", what=what, wanted=str(wanted.mtu), found=str(there.mtu))


def _rules(seen: Seen, names: Names) -> Iterator[Check]:
    what = f"table inet {names.table}"
    found = "changed by somebody" if seen.disturbed else "as programmed"
    yield Check(hop="rules", what=what, wanted="as programmed", found=found)
    found = "accept" if seen.paired else "drop"
    what = f"set same_network of {seen.overlay.name}"
    yield Check(hop="rules", what=what, wanted="accept", found=found)


def _peer(overlay: OverlayWanted, address: str) -> Peer | None:
    return next((peer for peer in overlay.peers if _within(address, peer.blocks)), None)


def _within(address: str, blocks: Iterable[str]) -> bool:
    return any(IPv4Address(address) in IPv4Network(block) for block in blocks)


def _way(via: str, device: str) -> str:
    return f"via {via} dev {device}" if via else f"dev {device}"


def _route(route: Route | None) -> str:
    return "unreachable" if route is None else _way(route.via, route.device)


def _mac(neighbours: Iterable[Neighbour], device: str, address: str) -> str:
    found = (n.mac for n in neighbours if n.device == device and n.address == address)
    return min(found, default="")


def _link(link: Link | None) -> str:
    if link is None:
        return ""
    tunnel = f"VNI {link.vni} from {link.local} port {link.port} " if link.kind == "vxlan" else ""
    return f"{link.kind} {tunnel}MAC {link.mac} {_up(link)}"


def _up(link: Link | None) -> str:
    return "up" if link and link.up else "down"


def _sorted(entries: Iterable[T]) -> list[T]:
    return sorted(entries, key=str)
