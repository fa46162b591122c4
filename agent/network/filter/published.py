"""Published ports as chains and map items of the host's table. PURE.

Invariant: finding the way of a packet costs one look-up, however many ports are published. A port
of the routing mesh has a chain of its own, which picks one of its service's backends; a port of
mode host leads to one task, so a map says it all.
"""

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address

import msgspec

from agent.network.base import EndpointWanted, OverlayWanted, Published
from agent.network.filter.table import Chain
from pyswarm_core.addresses import address6
from pyswarm_core.ids import NetworkId
from pyswarm_core.specs import PortConfig, PublishMode


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """What the table's maps hold. `anywhere`: reached by every address of the host."""

    mesh: frozenset[str]
    mesh_keys: frozenset[str]
    chains: dict[str, Chain]
    anywhere: frozenset[str]
    by_address: frozenset[str]
    by_device: frozenset[str]


def ports(
    overlays: Mapping[NetworkId, OverlayWanted],
    endpoints: Sequence[EndpointWanted],
    published: Sequence[Published],
) -> Ports:
    """The ports of the routing mesh, and those of this host's own tasks."""
    chains: dict[str, Chain] = {}
    mesh: dict[str, str] = {}
    for endpoint in sorted(endpoints, key=lambda endpoint: endpoint.key):
        for port in endpoint.ports:
            if port.publish_mode is PublishMode.INGRESS and port.published_port:
                label = f"mesh_{port.protocol}_{port.published_port}"
                overlay = overlays.get(endpoint.network_id)
                chains[label] = Chain(tuple(_to_backends(endpoint, port, overlay)))
                mesh[_key(port)] = f"goto {label}"
    own: dict[str, dict[str, str]] = {"": {}, "address": {}, "device": {}}
    for task in published:
        for port in task.ports:
            kind, key = _host_key(port)
            own[kind][key] = f"{task.address} . {port.target_port}"
    return Ports(
        mesh=_items(mesh), mesh_keys=frozenset(mesh), chains=chains, anywhere=_items(own[""]),
        by_address=_items(own["address"]), by_device=_items(own["device"]),
    )  # fmt: skip


def _items(values: Mapping[str, str]) -> frozenset[str]:
    return frozenset(f"{key} : {value}" for key, value in values.items())


def _key(port: PortConfig) -> str:
    return f"{port.protocol} . {port.published_port}"


def _host_key(port: PortConfig) -> tuple[str, str]:
    """Which map a port of mode host is in, and under what key."""
    if not port.host_ip or port.host_ip in ("0.0.0.0", "::"):
        return "", _key(port)
    try:
        return "address", f"{ip_address(port.host_ip)} . {_key(port)}"
    except ValueError:
        return "device", f'"{port.host_ip}" . {_key(port)}'


def _to_backends(
    endpoint: EndpointWanted, port: PortConfig, overlay: OverlayWanted | None
) -> Iterator[str]:
    addresses = [backend.address for backend in endpoint.backends]
    if addresses:
        yield _dnat(port, "ip", addresses)
    if addresses and overlay is not None and overlay.subnet6:
        far = [address6(overlay.subnet, overlay.subnet6, address) for address in addresses]
        yield _dnat(port, "ip6", far)


def _dnat(port: PortConfig, family: str, addresses: Sequence[str]) -> str:
    choices = ", ".join(f"{n} : {a} . {port.target_port}" for n, a in enumerate(addresses))
    return (
        f"meta l4proto {port.protocol} dnat {family} to"
        f" numgen random mod {len(addresses)} map {{ {choices} }}"
    )
