"""The content of a host's nft table for its networks and published ports. PURE.

Invariant: every rule matches the fleet's own devices (by prefix or in a set), its own subnets, or
published ports, and the policies accept, so that no other traffic of the host is affected. Networks
are isolated from each other, internal ones have no route out, connections from outside to a task
require a published port, packets that leave a network get the host's source address, and the
control plane is closed to tasks (control.py).

The routing mesh preserves clients' addresses: on the backend's host a connection is marked with the
host that accepted it, and answers are routed back by that mark (plan.py has the routes).
docs/networking.md shows the path of a packet.

Packets of encrypted networks are marked when they enter the tunnel: IPsec's policies match that
mark. The table drops every packet of these networks that would leave or enter the host in
plaintext, so a lost policy costs packets, never secrecy.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from agent.network.base import (
    NO_CONTROL_PLANE,
    ControlPlane,
    DesiredEndpoint,
    DesiredOverlay,
    Published,
    Underlay,
)
from agent.network.encryption.ipsec import is_encrypted
from agent.network.filter.control import (
    CLOSED,
    METADATA,
    control_chains,
    control_elements,
    to_elsewhere,
)
from agent.network.filter.published import (
    FORGET_SOON,
    NOT_LOOPBACK6,
    PORT_CHAINS,
    REFUSED,
    SCOPES,
    UNANSWERED,
    UNANSWERED_TIMEOUT,
    Ports,
    Scope,
    ports,
)
from agent.network.filter.senders import BY_ENTRY, ENTRY_ZONE, SPOOFED, senders
from agent.network.filter.table import Chain, Elements, Table, Unit, units
from agent.network.names import (
    ENCRYPTION_MASK,
    MARK_KIND,
    MARK_KIND_MASK,
    MARK_MASK,
    Names,
    return_mark,
)
from agent.network.names import vtep_mac as mac_of
from pyswarm_core.addresses import block6
from pyswarm_core.ids import NetworkId

PLAINTEXT = "plaintext"
"""The counter of dropped plaintext packets of encrypted networks."""

_MAPS_OF_PORTS = ("mesh", "host_ports", "host_ports6")
_OPTIONAL = frozenset(
    {"entries", "peers_tasks", "peers_tasks6"}
    | {f"{name}{scope.suffix}" for name in _MAPS_OF_PORTS for scope in SCOPES}
)
_PORT = "inet_proto . inet_service"
_TARGET, _TARGET6 = "ipv4_addr . inet_service", "ipv6_addr . inet_service"


def host_table(
    overlays: Sequence[DesiredOverlay],
    endpoints: Sequence[DesiredEndpoint],
    published: Sequence[Published],
    names: Names,
    underlay: Underlay,
    *,
    control: ControlPlane = NO_CONTROL_PLANE,
) -> Table | None:
    """The whole table; None if there is no network."""
    if not overlays:
        return None
    known = {overlay.network_id: overlay for overlay in overlays}
    forwarded = ports(known, endpoints, [task for task in published if task.network_id in known])
    meshed = [overlay for overlay in overlays if overlay.ingress]
    forwarded_to = [names.bridge(task.network_id) for task in published]
    forwarded_to += (name for overlay in meshed for name in _devices(overlay, names))
    encrypted = [overlay for overlay in overlays if is_encrypted(overlay)]
    frames = _frames(encrypted, underlay.port)
    return Table(
        elements=_networks(overlays, names)
        | _mesh(meshed, names, forwarded_to)
        | {"encrypted_tunnels": Elements("ifname", _tunnels(encrypted, names))}
        | _ports(forwarded)
        | control_elements(control, overlays, names, underlay.address),
        chains=_prerouting_chains(names, underlay, meshed=bool(meshed))
        | dict(chain for o in overlays for chain in senders(o, names, underlay.port))
        | _published(forwarded)
        | _forwarding_chains(names)
        | control_chains(_devices_of(names))
        | _tunnel_chains(names, frames, meshed=bool(meshed)),
        counters=(SPOOFED, PLAINTEXT, CLOSED, METADATA),
        objects={UNANSWERED: UNANSWERED_TIMEOUT},
    )


def part_of(
    overlays: Mapping[NetworkId, DesiredOverlay], endpoints: Sequence[DesiredEndpoint]
) -> Table:
    """The part of the table that belongs to these endpoints: their ports of the mesh."""
    forwarded = ports(overlays, endpoints, [])
    mesh = {f"mesh{scope.suffix}" for scope in SCOPES}
    elements = {label: held for label, held in _ports(forwarded).items() if label in mesh}
    return Table(elements=elements, chains=forwarded.chains)


def optional_units(table: Table) -> list[Unit]:
    """The parts that the table may omit if nft refuses them: forwarding to other hosts and to
    published ports, conntrack zones and timeouts. The rules that isolate networks and close the
    control plane are never omitted.
    """
    return units(table, _OPTIONAL, (PORT_CHAINS, ENTRY_ZONE, UNANSWERED))


def _frames(encrypted: Sequence[DesiredOverlay], data_path_port: int) -> str:
    """The match for VXLAN frames of encrypted networks between hosts; "" if there are none."""
    vnis = ", ".join(str(vni) for vni in sorted(overlay.vni for overlay in encrypted))
    # VXLAN's header follows UDP's, and its upper half is flags.
    return f"udp dport {data_path_port} @th,96,24 {{ {vnis} }}" if vnis else ""


def _tunnels(overlays: Iterable[DesiredOverlay], names: Names) -> frozenset[str]:
    return _set(f'"{names.vxlan(overlay.network_id)}"' for overlay in overlays)


def _networks(overlays: Sequence[DesiredOverlay], names: Names) -> dict[str, Elements]:
    egress = [overlay for overlay in overlays if not overlay.internal]
    return {
        "same_network": Elements(
            "ifname . ifname", _set(pair for o in overlays for pair in _pairs(o, names))
        ),
        "senders": Elements(
            "ifname : verdict",
            _set(f'"{d}" : goto from_{d}' for o in overlays for d in _devices(o, names)),
            values=True,
        ),
        "internal": Elements(
            "ifname", _set(f'"{names.bridge(o.network_id)}"' for o in overlays if o.internal)
        ),
        "egress": Elements("ipv4_addr", _set(o.subnet for o in egress), interval=True),
        "egress6": Elements(
            "ipv6_addr", _set(o.subnet6 for o in egress if o.subnet6), interval=True
        ),
        "sources": Elements(
            "ifname . ipv4_addr",
            _set(f'"{names.bridge(o.network_id)}" . {b}' for o in overlays for b in o.local_blocks),
            interval=True,
        ),
        "sources6": Elements(
            "ifname . ipv6_addr",
            _set(
                f'"{names.bridge(o.network_id)}" . {block6(o.subnet, o.subnet6, b)}'
                for o in overlays if o.subnet6 for b in o.local_blocks
            ),
            interval=True,
        ),
    }  # fmt: skip


def _mesh(
    meshed: Sequence[DesiredOverlay], names: Names, forwarded_to: Sequence[str]
) -> dict[str, Elements]:
    peers = [peer for overlay in meshed for peer in overlay.peers]
    here = any(overlay.local_blocks for overlay in meshed)
    return {
        "forwarded_to": Elements("ifname", _set(f'"{name}"' for name in forwarded_to)),
        "mesh_tunnels": Elements("ifname", _tunnels(meshed, names)),
        "mesh_bridges": Elements("ifname", _set(f'"{names.bridge(o.network_id)}"' for o in meshed)),
        "entries": Elements(
            "ether_addr : mark",
            _set(f"{mac_of(p.node_number)} : {return_mark(p.node_number)}" for p in peers if here),
            values=True,
        ),
        "peers_tasks": Elements(
            "ipv4_addr . ipv4_addr",
            _set(f"{peer.address} . {block}" for peer in peers for block in peer.blocks),
            interval=True,
        ),
        "peers_tasks6": Elements(
            "ipv6_addr . ipv6_addr",
            _set(
                f"{address} . {block6(o.subnet, o.subnet6, block)}"
                for o in meshed
                if o.subnet6
                for peer in o.peers
                for address in peer.addresses6
                for block in peer.blocks
            ),
            interval=True,
        ),
    }


def _ports(forwarded: Ports) -> dict[str, Elements]:
    made = {}
    for scope in SCOPES:
        key, mesh = f"{scope.type}{_PORT}", forwarded.mesh[scope]
        made[f"mesh{scope.suffix}"] = Elements(f"{key} : verdict", _items(mesh), values=True)
        made[f"host_ports{scope.suffix}"] = Elements(
            f"{key} : {_TARGET}", _items(forwarded.own[scope]), values=True
        )
        made[f"host_ports6{scope.suffix}"] = Elements(
            f"{key} : {_TARGET6}", _items(forwarded.own6[scope]), values=True
        )
    return made


def _items(values: Mapping[str, str]) -> frozenset[str]:
    return frozenset(f"{key} : {value}" for key, value in values.items())


def _prerouting_chains(names: Names, underlay: Underlay, *, meshed: bool) -> dict[str, Chain]:
    devices = _devices_of(names)
    tunnels = f"udp dport {underlay.port} ip"
    # Before conntrack: no packet is translated yet. VXLAN's own packets need no conntrack: each
    # inner flow has its own source port, and gets no answer to it.
    chains = {
        "of_tasks": Chain(hook="type filter hook prerouting priority raw;", rules=(
            f"iifname {devices} iifname vmap @senders",
            f"{tunnels} daddr {underlay.address} notrack",
        )),
        "of_tunnels": Chain(hook="type filter hook output priority raw;", rules=(
            f"{tunnels} saddr {underlay.address} notrack",
        )),
    }  # fmt: skip
    if meshed:
        chains[ENTRY_ZONE] = BY_ENTRY
        is_ours = f"ct mark & {MARK_KIND_MASK:#x} == {MARK_KIND:#x}"
        chains["return_path"] = Chain(hook="type filter hook prerouting priority mangle;", rules=(
            f"iifname != {devices} accept",
            "iifname @mesh_tunnels ct state new ct mark set ether saddr map @entries",
            f"iifname @mesh_bridges ct direction reply {is_ours}"
            f" meta mark set ct mark & {MARK_MASK:#x}",
        ))  # fmt: skip
    return chains


def _port_of(scope: Scope) -> str:
    return f"{scope.match}meta l4proto . th dport"


def _published(forwarded: Ports) -> dict[str, Chain]:
    return {
        "prerouting": Chain(hook="type nat hook prerouting priority dstnat;", rules=(
            "fib daddr type local jump published",
        )),
        "output": Chain(hook="type nat hook output priority -100;", rules=(
            "fib daddr type local jump published",
        )),
        "published": Chain(rules=(
            *(f"dnat ip to {_port_of(s)} map @host_ports{s.suffix}" for s in SCOPES),
            *(
                f"{NOT_LOOPBACK6} dnat ip6 to {_port_of(s)} map @host_ports6{s.suffix}"
                for s in SCOPES if forwarded.own6[s]
            ),
            *(f"{_port_of(s)} vmap @mesh{s.suffix}" for s in SCOPES),
        )),
        UNANSWERED: FORGET_SOON,
        REFUSED: Chain(rules=("meta l4proto tcp reject with tcp reset", "reject")),
    } | forwarded.chains  # fmt: skip


def _forwarding_chains(names: Names) -> dict[str, Chain]:
    ours = _devices_of(names)
    return {
        "forward": Chain(hook="type filter hook forward priority filter;", rules=(
            "iifname . oifname @same_network accept",
            "iifname @internal drop",
            to_elsewhere(ours),
            "ct status dnat ct direction original oifname @forwarded_to accept",
            "ct status dnat ct direction reply iifname @forwarded_to accept",
            f"iifname {ours} oifname {ours} drop",
            f"oifname {ours} ct state != {{ established, related }} drop",
        )),
        "postrouting": Chain(hook="type nat hook postrouting priority srcnat;", rules=(
            f"oifname != {ours} ip saddr @egress masquerade",
            f"oifname != {ours} ip6 saddr @egress6 masquerade",
            # Answers to these sources would not return through this host: localhost, a task on the
            # same bridge, and the host that the chosen task runs on.
            f"oifname {ours} ip saddr 127.0.0.0/8 masquerade",
            "ct status dnat oifname . ip saddr @sources masquerade",
            "ct status dnat oifname . ip6 saddr @sources6 masquerade",
            "ct status dnat oifname @mesh_tunnels ip saddr . ip daddr @peers_tasks masquerade",
            "ct status dnat oifname @mesh_tunnels ip6 saddr . ip6 daddr @peers_tasks6 masquerade",
        )),
    }  # fmt: skip


def _tunnel_chains(names: Names, frames: str, *, meshed: bool) -> dict[str, Chain]:
    """Every packet of the host evaluates these chains: they exist only while they are needed."""
    chains = {}
    if frames:
        chains["input"] = Chain(hook="type filter hook input priority filter;", rules=(
            f"{frames} meta ipsec missing counter name {PLAINTEXT} drop",
        ))  # fmt: skip
    if frames or meshed:
        # VXLAN's outer packet inherits the mark.
        encrypt = f"& {ENCRYPTION_MASK ^ 0xFFFFFFFF:#x} | {names.encryption_mark:#x}"
        chains["into_tunnels"] = Chain(hook="type filter hook postrouting priority mangle;", rules=(
            *_if(frames, f"rt ipsec missing counter name {PLAINTEXT} drop"),
            f"oifname != {_devices_of(names)} accept",
            f"oifname @mesh_tunnels meta mark & {MARK_KIND_MASK:#x} == {MARK_KIND:#x}"
            f" meta mark set meta mark & {MARK_MASK ^ 0xFFFFFFFF:#x}",
            f"oifname @encrypted_tunnels meta mark set meta mark {encrypt}",
        ))  # fmt: skip
    return chains


def _devices_of(names: Names) -> str:
    """The match for the names of all devices of the fleet: cheaper than any set."""
    return f'"{names.prefix}*"'


def _if(match: str, verdict: str) -> tuple[str, ...]:
    return (f"{match} {verdict}",) if match else ()


def _devices(overlay: DesiredOverlay, names: Names) -> tuple[str, ...]:
    bridge = names.bridge(overlay.network_id)
    return (bridge, names.vxlan(overlay.network_id)) if overlay.vni else (bridge,)


def _pairs(overlay: DesiredOverlay, names: Names) -> Iterator[str]:
    bridge, vxlan = names.bridge(overlay.network_id), names.vxlan(overlay.network_id)
    yield f'"{bridge}" . "{bridge}"'
    if overlay.vni:
        yield f'"{bridge}" . "{vxlan}"'
        yield f'"{vxlan}" . "{bridge}"'


def _set(items: Iterable[str]) -> frozenset[str]:
    return frozenset(items)
