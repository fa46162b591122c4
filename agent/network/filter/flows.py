"""Deletes UDP flows to tasks that may no longer receive them. SHELL; in pool threads.

A UDP flow stays with the task that its first datagram was sent to, for as long as it is used.
Invariant: only flows to a published port are read, and of these only those that a task of the
fleet's networks answers are deleted.
"""

from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from agent.network import conntrack
from agent.network.base import DesiredEndpoint, DesiredOverlay, Published
from agent.network.filter import netfilter
from agent.network.message import AF_INET, AF_INET6
from agent.network.netlink import NETFILTER, Netlink
from pyswarm_core.addresses import address6
from pyswarm_core.ids import NetworkId
from pyswarm_core.specs import Protocol

Backends = Mapping[int, frozenset[str]]


def udp_backends(
    overlays: Mapping[NetworkId, DesiredOverlay],
    endpoints: Collection[DesiredEndpoint],
    published: Sequence[Published],
) -> Backends:
    """Published UDP ports and the addresses that they may be forwarded to."""
    found: dict[int, set[str]] = {}
    for endpoint in endpoints:
        for port in endpoint.ports:
            if port.protocol is Protocol.UDP:
                to = found.setdefault(port.published_port, set())
                overlay = overlays.get(endpoint.network_id)
                to.update(*(_both(overlay, backend.address) for backend in endpoint.backends))
    for task in published:
        for port in task.ports:
            if port.protocol is Protocol.UDP:
                to = found.setdefault(port.published_port, set())
                to.update(_both(overlays.get(task.network_id), task.address))
    return {port: frozenset(addresses) for port, addresses in found.items()}


def _both(overlay: DesiredOverlay | None, address: str) -> tuple[str, ...]:
    if overlay is None or not overlay.subnet6:
        return (address,)
    return address, address6(overlay.subnet, overlay.subnet6, address)


def forget_stale(before: Backends, after: Backends, overlays: Collection[DesiredOverlay]) -> None:
    """Delete the flows of changed ports that are forwarded elsewhere in the fleet's networks than
    `after` allows.

    Raises NetworkFailed.
    """
    ports = [p for p in sorted({*before, *after}) if before.get(p) != after.get(p)]
    subnets = [ip_network(text) for o in overlays for text in (o.subnet, o.subnet6) if text]
    if not ports or not subnets:
        return
    families = {AF_INET, *(AF_INET6 for subnet in subnets if subnet.version == 6)}
    with Netlink(NETFILTER) as kernel:
        for port in ports:
            for family in sorted(families):
                _forget(kernel, family, port, after.get(port, frozenset()), subnets)


def _forget(
    kernel: Netlink,
    family: int,
    port: int,
    allowed: frozenset[str],
    subnets: Sequence[IPv4Network | IPv6Network],
) -> None:
    stale = []
    for body in kernel.dump(conntrack.dump(family, port=port)):
        flow = conntrack.read(body)
        if flow is None or flow.port != port or not flow.answers:
            continue
        address = ip_address(flow.answers)
        if str(address) not in allowed and any(address in subnet for subnet in subnets):
            stale.append(conntrack.forget(family, flow))
    kernel.apply(stale, ignore_missing=True)


def count(table: str, name: str) -> int:
    """The number of packets that a named counter of an inet table has seen; 0 if it does not
    exist.
    """
    with Netlink(NETFILTER) as netlink:
        body = netlink.one(netfilter.get_counter(table, name))
    return netfilter.read_counter(body) if body else 0
