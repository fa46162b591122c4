"""The devices, addresses, routes, rules, neighbours and FDB entries that a host needs, and the
changes that lead there. PURE.

`desired_state` turns networks into a KernelState; `difference` compares it with the actual state.
Invariant: after a difference is applied, the next one is empty. There is one route per peer block,
one neighbour and one FDB entry per peer; none depends on tasks, so starting a task changes nothing
on other hosts. Where tasks of the routing mesh run there are, per peer, a routing rule and a table
of one route: the return path to the host that accepted the connection. A dual-stack network has all
of it twice, except the FDB: IPv6 follows from IPv4 (`AddressFamily`).
"""

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from agent.network.base import VXLAN_OVERHEAD, DesiredOverlay, Drift, Underlay
from agent.network.encryption.ipsec import encrypted_mtu, is_encrypted
from agent.network.ipam import gateway
from agent.network.names import (
    MARK_KIND_MASK,
    MARK_MASK,
    Names,
    gateway_mac,
    link_local,
    next_hop,
    next_hop6,
    return_mark,
    vtep_mac,
)
from agent.network.state import (
    DeviceAddress,
    Fdb,
    KernelState,
    Link,
    Neighbour,
    Route,
    Rule,
    Setting,
)
from pyswarm_core.addresses import address6, block6
from pyswarm_core.ids import NetworkId

IPV6_MTU_MIN = 1280
"""The minimum MTU of every IPv6 link (RFC 8200)."""
NO_PATHS: Mapping[str, int] = {}
FORWARDING = Setting("ipv4/ip_forward", "1")
FORWARDING6 = Setting("ipv6/conf/all/forwarding", "1")


class KernelChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Changes, in the order in which they must be applied.

    A link is created before entries are added to it.
    """

    drop_links: tuple[str, ...] = ()
    make_links: tuple[Link, ...] = ()
    set_links: tuple[Link, ...] = ()
    settings: tuple[Setting, ...] = ()
    set_ports: tuple[str, ...] = ()
    lost_ports: tuple[str, ...] = ()
    add_addresses: tuple[DeviceAddress, ...] = ()
    add_routes: tuple[Route, ...] = ()
    add_neighbours: tuple[Neighbour, ...] = ()
    add_fdb: tuple[Fdb, ...] = ()
    add_rules: tuple[Rule, ...] = ()
    drop_rules: tuple[Rule, ...] = ()
    drop_routes: tuple[Route, ...] = ()
    drop_neighbours: tuple[Neighbour, ...] = ()
    drop_fdb: tuple[Fdb, ...] = ()
    drop_addresses: tuple[DeviceAddress, ...] = ()


class Refusal(NamedTuple):
    """A change that failed. `device`: the device of the entry; empty: the host as a whole."""

    device: str
    entry: object
    reason: str

    def __str__(self) -> str:
        return f"{describe(self.entry)}: {self.reason}"


class RemotePeer(msgspec.Struct, frozen=True):
    """A peer in one IP version: its next hop and blocks. `mtu` 0: the network's MTU."""

    number: int
    via: str
    blocks: tuple[str, ...]
    mtu: int


class AddressFamily(msgspec.Struct, frozen=True):
    """One IP version of a network: its subnet and blocks, and its peers."""

    six: bool
    subnet: str
    local_blocks: tuple[str, ...]
    peers: tuple[RemotePeer, ...]
    anywhere: str
    gateway: str
    """The tasks' next hop if it is the same on every host."""


def families(
    overlay: DesiredOverlay, underlay_mtu: int, paths: Mapping[str, int]
) -> Iterator[AddressFamily]:
    """The IP versions of a network."""
    most = network_mtu(overlay, underlay_mtu)
    mtus = {p: _narrower(overlay, paths.get(p.address, 0), most) for p in overlay.peers}
    yield AddressFamily(
        False, overlay.subnet, overlay.local_blocks,
        tuple(RemotePeer(p.node_number, next_hop(p.node_number), p.blocks, mtus[p]) for p in mtus),
        "0.0.0.0/0", overlay.gateway,
    )  # fmt: skip
    if overlay.subnet6:
        peers = (
            RemotePeer(p.node_number, next_hop6(p.node_number), blocks6(overlay, p.blocks),
                mtus[p] and max(mtus[p], IPV6_MTU_MIN))
            for p in mtus
        )  # fmt: skip
        blocks = blocks6(overlay, overlay.local_blocks)
        via = overlay.gateway and address6(overlay.subnet, overlay.subnet6, overlay.gateway)
        yield AddressFamily(True, overlay.subnet6, blocks, tuple(peers), "::/0", via)


def blocks6(overlay: DesiredOverlay, blocks: Iterable[str]) -> tuple[str, ...]:
    """The IPv6 blocks that correspond to these of a dual-stack network."""
    return tuple(block6(overlay.subnet, overlay.subnet6, block) for block in blocks)


def network_mtu(overlay: DesiredOverlay, underlay_mtu: int) -> int:
    """The MTU of a network's devices and tasks."""
    if overlay.mtu or not overlay.vni:
        return overlay.mtu or underlay_mtu
    if is_encrypted(overlay):
        return encrypted_mtu(underlay_mtu)
    return underlay_mtu - VXLAN_OVERHEAD


def has_fast_path(overlay: DesiredOverlay) -> bool:
    """Whether packets between its tasks may bypass the hosts' filter, which neither translates nor
    encrypts them.
    """
    return bool(overlay.vni) and not overlay.ingress and not is_encrypted(overlay)


def _narrower(overlay: DesiredOverlay, path: int, most: int) -> int:
    """The MTU of a peer's routes if full packets of the network would not reach it, else 0."""
    room = encrypted_mtu(path) if is_encrypted(overlay) else path - VXLAN_OVERHEAD
    return room if path and room < most else 0


def desired_state(
    overlays: Sequence[DesiredOverlay],
    names: Names,
    underlay: Underlay,
    underlay_mtu: int,
    ports: Mapping[str, str],
    *,
    behind_ports: Iterable[Neighbour] = (),
    published: Collection[NetworkId] = (),
    paths: Mapping[str, int] = NO_PATHS,
) -> KernelState:
    """The desired state for these networks. `ports` are the attached tasks' devices and their
    bridges, `behind_ports` the tasks' neighbour entries; ports of this host are forwarded to tasks
    of the `published` networks. `paths`: the path MTU by underlay address.
    """
    links: dict[str, Link] = {}
    addresses: list[DeviceAddress] = []
    routes: list[Route] = []
    neighbours: list[Neighbour] = []
    fdb: list[Fdb] = []
    rules: list[Rule] = []
    settings: list[Setting] = []
    for overlay in overlays:
        mtu = network_mtu(overlay, underlay_mtu)
        own = {link.name: link for link in _links(overlay, names, underlay, mtu)}
        links |= own
        bridge, vxlan = names.bridge(overlay.network_id), names.vxlan(overlay.network_id)
        for family in families(overlay, underlay_mtu, paths):
            addresses += (DeviceAddress(bridge, cidr) for cidr in _bridge_cidrs(family))
            routes += _routes(overlay, family, names)
            if overlay.vni:
                neighbours += (Neighbour(vxlan, p.via, vtep_mac(p.number)) for p in family.peers)
            if overlay.ingress and overlay.local_blocks:
                rules += _return_rules(family, bridge, names)
        if overlay.vni:
            fdb += (Fdb(vxlan, vtep_mac(p.node_number), p.address) for p in overlay.peers)
        is_forwarded_to = overlay.ingress or overlay.network_id in published
        settings += _settings(own, six=bool(overlay.subnet6), is_forwarded_to=is_forwarded_to)
        if overlay.subnet6:
            addresses += (DeviceAddress(name, _link_cidr(link)) for name, link in own.items())
    ports = {port: bridge for port, bridge in ports.items() if bridge in links}
    neighbours += (task for task in behind_ports if task.device in ports)
    return KernelState(
        links=links, ports=ports, addresses=frozenset(addresses), routes=frozenset(routes),
        neighbours=frozenset(neighbours), fdb=frozenset(fdb), rules=frozenset(rules),
        settings=frozenset(settings),
    )  # fmt: skip


def _links(overlay: DesiredOverlay, names: Names, underlay: Underlay, mtu: int) -> Iterator[Link]:
    mac = gateway_mac(overlay.network_id)
    yield Link(name=names.bridge(overlay.network_id), kind="bridge", mac=mac, mtu=mtu)
    if overlay.vni:
        yield Link(
            name=names.vxlan(overlay.network_id), kind="vxlan", mac=vtep_mac(overlay.node_number),
            mtu=mtu, vni=overlay.vni, local=underlay.address, port=underlay.port,
        )  # fmt: skip


def _bridge_cidrs(family: AddressFamily) -> Iterator[str]:
    own = {gateway(block): block.partition("/")[2] for block in family.local_blocks}
    yield from (f"{address}/{prefix}" for address, prefix in own.items())
    if own and family.gateway and family.gateway not in own:
        yield f"{family.gateway}/{128 if family.six else 32}"


def _link_cidr(link: Link) -> str:
    # The kernel would assign it, but only after duplicate address detection, and not if that is
    # disabled; without it a bridge cannot resolve its tasks' addresses.
    return f"{link_local(link.mac)}/64"


def _routes(overlay: DesiredOverlay, family: AddressFamily, names: Names) -> Iterator[Route]:
    bridge, vxlan = names.bridge(overlay.network_id), names.vxlan(overlay.network_id)
    for block in family.local_blocks:
        yield Route(dst=block, device=bridge, source=gateway(block))
    if overlay.vni:
        yield Route(dst=family.subnet, metric=names.last_resort_metric)
        yield from _peer_routes(family, vxlan)
    if overlay.ingress and family.local_blocks:
        yield from _return_routes(family, vxlan, names)


def _peer_routes(family: AddressFamily, vxlan: str) -> Iterator[Route]:
    # The host's own packets have a source address of the network, so that other hosts can answer.
    source = gateway(family.local_blocks[0]) if family.local_blocks else ""
    for peer in family.peers:
        for block in peer.blocks:
            yield Route(
                dst=block, device=vxlan, via=peer.via, source=source, onlink=True, mtu=peer.mtu
            )


def _return_routes(family: AddressFamily, vxlan: str, names: Names) -> Iterator[Route]:
    for peer in family.peers:
        table = names.table_towards(peer.number)
        yield Route(
            dst=family.anywhere, device=vxlan, via=peer.via, onlink=True, table=table, mtu=peer.mtu
        )


def _return_rules(family: AddressFamily, bridge: str, names: Names) -> Iterator[Rule]:
    # Rules are evaluated in order: a packet without a mark of the fleet jumps over all of them.
    first, six = names.rule_priority, family.six
    yield Rule(priority=first, mask=MARK_KIND_MASK, goto=first + 2, six=six)
    for peer in family.peers:
        mark, table = return_mark(peer.number), names.table_towards(peer.number)
        # Matching the device excludes VXLAN's outer packets, which the host itself sends.
        yield Rule(priority=first + 1, iif=bridge, mark=mark, mask=MARK_MASK, table=table, six=six)
    yield Rule(priority=first + 2, six=six)


def _localhost(name: str) -> Setting:
    """Packets from 127.0.0.1 may leave by the device, and answers may return (the packet filter
    blocks all other use).
    """
    return Setting(f"ipv4/conf/{name}/route_localnet", "1", name)


def _settings(
    devices: Mapping[str, Link], *, six: bool, is_forwarded_to: bool
) -> Iterator[Setting]:
    yield FORWARDING
    if six:
        yield FORWARDING6
    for name, link in devices.items():
        if is_forwarded_to:
            yield _localhost(name)
        # Replies may take another path than requests: reverse path filtering must be off.
        yield Setting(f"ipv4/conf/{name}/rp_filter", "0", name)
        if link.mtu >= IPV6_MTU_MIN:  # below it the kernel has no IPv6 settings for the device
            yield Setting(f"ipv6/conf/{name}/disable_ipv6", "0" if six else "1", name)
        if six:
            # Tasks send no router advertisements, and addresses are unique.
            yield Setting(f"ipv6/conf/{name}/accept_ra", "0", name)
            yield Setting(f"ipv6/conf/{name}/accept_dad", "0", name)


def difference(desired: KernelState, found: KernelState) -> KernelChanges:
    """The changes that turn the actual state into the desired one."""
    unknown = [name for name in found.links if name not in desired.links]
    broken = [
        name for name, link in desired.links.items()
        if name in found.links and _identity(found.links[name]) != _identity(link)
    ]  # fmt: skip
    dropped = {*unknown, *broken}
    kept = {name: link for name, link in found.links.items() if name not in dropped}
    return KernelChanges(
        drop_links=tuple(sorted(dropped)),
        make_links=tuple(link for name, link in desired.links.items() if name not in kept),
        set_links=tuple(
            _only_changed(link, kept[name])
            for name, link in desired.links.items() if name in kept and kept[name] != link
        ),
        settings=_missing(desired.settings, found.settings, dropped),
        set_ports=tuple(
            port for port, bridge in desired.ports.items()
            if port in found.ports and (found.ports[port] != bridge or bridge in dropped)
        ),
        lost_ports=tuple(port for port in desired.ports if port not in found.ports),
        add_addresses=_missing(desired.addresses, found.addresses, dropped),
        add_routes=_missing(desired.routes, found.routes, dropped),
        add_neighbours=_missing(desired.neighbours, found.neighbours, dropped),
        add_fdb=_missing(desired.fdb, found.fdb, dropped),
        add_rules=_missing(desired.rules, found.rules, dropped),
        drop_rules=tuple(sorted(found.rules - desired.rules)),
        drop_routes=_left_over(desired.routes, found.routes, dropped),
        drop_neighbours=_left_over(desired.neighbours, found.neighbours, dropped),
        drop_fdb=_left_over(desired.fdb, found.fdb, dropped),
        drop_addresses=_left_over(desired.addresses, found.addresses, dropped),
    )  # fmt: skip


def _identity(link: Link) -> tuple[Hashable, ...]:
    """The properties that cannot be changed on an existing device (a VXLAN device drops its
    neighbours when its MAC changes).
    """
    if link.kind != "vxlan":
        return (link.kind,)
    return (link.kind, link.vni, link.local, link.port, link.mac, link.learning)


def _only_changed(link: Link, found: Link) -> Link:
    # Setting the MAC drops a device's neighbours, even if the MAC is the same.
    return msgspec.structs.replace(link, mac="") if link.mac == found.mac else link


Entry = TypeVar("Entry", DeviceAddress, Route, Neighbour, Fdb, Rule, Setting)


def _missing(
    desired: frozenset[Entry], found: frozenset[Entry], gone: set[str]
) -> tuple[Entry, ...]:
    # Entries of a removed device are removed with it.
    there = {entry for entry in found if entry.device not in gone} if gone else found
    return tuple(sorted(desired - there, key=_key))


def _left_over(
    desired: frozenset[Entry], found: frozenset[Entry], gone: set[str]
) -> tuple[Entry, ...]:
    # Adding replaces an entry of the same key; removing the old one afterwards would remove the new
    # one.
    keys = {_key(entry) for entry in desired}
    extra = [e for e in sorted(found - desired, key=_key) if e.device not in gone]
    return tuple(e for e in extra if _key(e) not in keys)


def _key(entry: DeviceAddress | Route | Neighbour | Fdb | Rule | Setting) -> tuple[str, str, int]:
    match entry:
        case Rule():
            return f"{entry.iif} {'six' if entry.six else ''}", str(entry.mark), entry.priority
        case Setting():
            return "", entry.path, 0
        case DeviceAddress():
            return entry.device, entry.cidr, 0
        case Route():
            return str(entry.table), entry.dst, entry.metric
        case Neighbour():
            return entry.device, entry.address, 0
        case Fdb():
            return entry.device, entry.mac, 0


def drifts(changes: KernelChanges) -> tuple[Drift, ...]:
    """The changes as values for logs and metrics."""
    named: tuple[tuple[str, Collection[object]], ...] = (
        ("link", (*changes.drop_links, *(link.name for link in changes.make_links))),
        ("link", tuple(f"{link.name} mtu {link.mtu} up" for link in changes.set_links)),
        ("setting", changes.settings),
        ("port", (*changes.set_ports, *changes.lost_ports)),
        ("address", (*changes.add_addresses, *changes.drop_addresses)),
        ("route", (*changes.add_routes, *changes.drop_routes)),
        ("neighbour", (*changes.add_neighbours, *changes.drop_neighbours)),
        ("fdb", (*changes.add_fdb, *changes.drop_fdb)),
        ("rule", (*changes.add_rules, *changes.drop_rules)),
    )
    return tuple(
        Drift(kind=kind, detail=detail) for kind, items in named for detail in _describe_all(items)
    )


def _describe_all(items: Iterable[object]) -> Iterator[str]:
    return map(describe, items)


def describe(entry: object) -> str:
    """An entry in the notation of `ip`."""
    match entry:
        case DeviceAddress():
            return f"{entry.cidr} dev {entry.device}"
        case Route():
            table = f" table {entry.table}" if entry.table else ""
            mtu = f" mtu {entry.mtu}" if entry.mtu else ""
            where = f"dev {entry.device}" if entry.device else "unreachable"
            return f"{entry.dst} {where}{mtu}{table}"
        case Rule():
            came = f"iif {entry.iif} " if entry.iif else ""
            version = "-6 " if entry.six else ""
            return f"{version}{entry.priority}: {came}fwmark {entry.mark:#x}/{entry.mask:#x}"
        case Neighbour():
            return f"{entry.address} lladdr {entry.mac} dev {entry.device}"
        case Fdb():
            return f"{entry.mac} dst {entry.vtep} dev {entry.device}"
        case Setting():
            return f"{entry.path} = {entry.value}"
        case Link():
            return f"{entry.kind} {entry.name}"
        case _:
            return str(entry)
