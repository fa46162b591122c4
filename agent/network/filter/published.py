"""Published ports as chains and map items of the host's table. PURE.

Invariant: finding the target of a packet costs one lookup, however many ports are published. A port
of the routing mesh has its own chain, which selects one of its service's backends; a port of mode
host is forwarded to one task, so a map suffices. `::1` is refused: IPv6 accepts answers to it from
the loopback only, so a connection would hang.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address

import msgspec

from agent.network.base import DesiredEndpoint, DesiredOverlay, Published
from agent.network.filter.table import Chain
from pyswarm_core.addresses import address6
from pyswarm_core.ids import NetworkId
from pyswarm_core.specs import PortConfig, Protocol, PublishMode

_NO_WORD = re.compile(r"[^0-9A-Za-z]")


class Scope(msgspec.Struct, frozen=True):
    """The addresses of a host on which a port is published, as a suffix of maps' names.

    `type` and `match` precede protocol and port in a map's type and in its lookup.
    """

    suffix: str
    type: str = ""
    match: str = ""


ANYWHERE = Scope("")
BY_ADDRESS = Scope("_by_address", "ipv4_addr . ", "ip daddr . ")
BY_ADDRESS6 = Scope("_by_address6", "ipv6_addr . ", "ip6 daddr . ")
BY_DEVICE = Scope("_by_device", "ifname . ", "iifname . ")
SCOPES = (BY_ADDRESS, BY_ADDRESS6, BY_DEVICE, ANYWHERE)
"""The narrowest first: it has precedence."""
PORT_CHAINS = "mesh_"
"""The prefix of the names of the mesh's chains."""
UNANSWERED = "unanswered"
"""The chain, and the timeout that it sets, of attempts to connect that no backend has answered."""
UNANSWERED_TIMEOUT = f"ct timeout {UNANSWERED} {{ protocol tcp; policy = {{ syn_sent : 1 }}; }}"
"""A client retransmits its first packet after one second (RFC 6298, 2.1). By then conntrack has
deleted the attempt, and the packet is forwarded to another random backend: a lost backend costs a
client one second, not the two minutes of nf_conntrack_tcp_timeout_syn_sent.
"""
FORGET_SOON = Chain((f'ct timeout set "{UNANSWERED}"',))
REFUSED = "refused"
"""The chain for packets without a backend."""
NOT_LOOPBACK6 = "ip6 daddr != ::1"


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """The items of the table's maps: by scope, key (address or device, protocol, port) to
    target.
    """

    mesh: dict[Scope, dict[str, str]]
    own: dict[Scope, dict[str, str]]
    own6: dict[Scope, dict[str, str]]
    chains: dict[str, Chain]


def ports(
    overlays: Mapping[NetworkId, DesiredOverlay],
    endpoints: Sequence[DesiredEndpoint],
    published: Sequence[Published],
) -> Ports:
    """The ports of the routing mesh, and those of this host's own tasks."""
    chains: dict[str, Chain] = {}
    mesh: dict[Scope, dict[str, str]] = {scope: {} for scope in SCOPES}
    own: dict[Scope, dict[str, str]] = {scope: {} for scope in SCOPES}
    own6: dict[Scope, dict[str, str]] = {scope: {} for scope in SCOPES}
    for endpoint in sorted(endpoints, key=lambda endpoint: endpoint.key):
        for port in endpoint.ports:
            if port.publish_mode is PublishMode.INGRESS and port.published_port:
                scope, key = _key(port)
                label = _label(port)
                overlay = overlays.get(endpoint.network_id)
                chains[label] = Chain(tuple(_to_backends(endpoint, port, overlay)))
                mesh[scope][key] = f"goto {label}"
    for task in published:
        overlay = overlays.get(task.network_id)
        for port in task.ports:
            scope, key = _key(port)
            if scope is not BY_ADDRESS6:
                own[scope][key] = f"{task.address} . {port.target_port}"
            if scope is not BY_ADDRESS and overlay is not None and overlay.subnet6:
                address = address6(overlay.subnet, overlay.subnet6, task.address)
                own6[scope][key] = f"{address} . {port.target_port}"
    return Ports(mesh=mesh, own=own, own6=own6, chains=chains)


def _key(port: PortConfig) -> tuple[Scope, str]:
    """The map that a port is in, and its key."""
    key = f"{port.protocol} . {port.published_port}"
    if not port.host_ip or port.host_ip in ("0.0.0.0", "::"):
        return ANYWHERE, key
    try:
        address = ip_address(port.host_ip)
    except ValueError:
        return BY_DEVICE, f'"{port.host_ip}" . {key}'
    return BY_ADDRESS if address.version == 4 else BY_ADDRESS6, f"{address} . {key}"


def _label(port: PortConfig) -> str:
    """The name of a port's chain: `mesh_tcp_80`, with the address or device if it has one."""
    label = f"{PORT_CHAINS}{port.protocol}_{port.published_port}"
    return f"{label}_{_NO_WORD.sub('_', port.host_ip)}" if port.host_ip else label


def _to_backends(
    endpoint: DesiredEndpoint, port: PortConfig, overlay: DesiredOverlay | None
) -> Iterator[str]:
    addresses = [backend.address for backend in endpoint.backends]
    if addresses and port.protocol is Protocol.TCP:
        yield f"jump {UNANSWERED}"
    if addresses:
        yield _dnat(port, "ip", addresses)
    if addresses and overlay is not None and overlay.subnet6:
        six = [address6(overlay.subnet, overlay.subnet6, address) for address in addresses]
        yield _dnat(port, "ip6", six)
    # No process of the host may answer instead.
    yield f"goto {REFUSED}"


def _dnat(port: PortConfig, family: str, addresses: Sequence[str]) -> str:
    choices = ", ".join(f"{n} : {a} . {port.target_port}" for n, a in enumerate(addresses))
    given = f"{NOT_LOOPBACK6} " if family == "ip6" else ""
    return (
        f"{given}meta l4proto {port.protocol} dnat {family} to"
        f" numgen random mod {len(addresses)} map {{ {choices} }}"
    )
