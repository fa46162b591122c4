"""The short way of what goes from task to task of one network on another host. PURE.

Such a packet is routed through two hosts, and every hook of IP looks at it: of our rules, of
conntrack, of other people's. Nothing there may change it, so it is taken where it comes in by the
network's bridge or VXLAN device, and put out at the other, with the next hop that its route names.

Invariant: what goes the short way would have passed by the long one; whatever is in doubt (a
sender's address that is not its own, the hosts' own addresses, a packet that is too big or at the
end of its life) is left to that, and so is all of the ingress network and of encrypted ones.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_network

from agent.network.base import OverlayWanted
from agent.network.encryption.ipsec import is_encrypted
from agent.network.filter.table import Chain, Table
from agent.network.names import Names
from agent.network.plan import network_mtu, sides


def shortcuts(
    overlays: Sequence[OverlayWanted], names: Names, underlay_mtu: int, paths: Mapping[str, int]
) -> Table | None:
    """The netdev table; None if no network has a short way. `paths` are those of `plan.wanted`."""
    chains: dict[str, Chain] = {}
    for overlay in overlays:
        if overlay.vni and not overlay.ingress and not is_encrypted(overlay):
            chains |= _chains(overlay, names, underlay_mtu, paths)
    return Table(elements={}, chains=chains, family="netdev") if chains else None


def _chains(
    overlay: OverlayWanted, names: Names, underlay_mtu: int, paths: Mapping[str, int]
) -> Iterator[tuple[str, Chain]]:
    bridge, vxlan = names.bridge(overlay.network_id), names.vxlan(overlay.network_id)
    out: list[str] = []
    into: list[str] = []
    for side in sides(overlay, underlay_mtu, paths):
        here = [tasks for block in side.local_blocks for tasks in _tasks(block)]
        # A peer that full packets do not get to has an MTU of its own, which only routing obeys.
        far = (peer for peer in side.peers if not peer.mtu)
        hops = {tasks: peer.via for peer in far for block in peer.blocks for tasks in _tasks(block)}
        if here and hops:
            family, life = ("ip6", "hoplimit") if side.six else ("ip", "ttl")
            alive = f"{family} {life} > 1"
            out.append(
                f"{family} saddr {_any(here)} {alive} fwd {family} to {family} daddr"
                f' map {_map(hops)} device "{vxlan}"'
            )
            into.append(
                f"{family} saddr {side.subnet} {family} daddr {_any(here)} {alive}"
                f' fwd {family} to {family} daddr device "{bridge}"'
            )
    # TCP's may have been put together of smaller ones, and keep to the MTU by themselves.
    mtu = network_mtu(overlay, underlay_mtu)
    big = f"meta l4proto != tcp meta length > {mtu} accept"
    for device, rules in ((bridge, out), (vxlan, into)):
        if rules:
            hook = f'type filter hook ingress device "{device}" priority 0;'
            yield f"from_{device}", Chain((big, *rules), hook=hook)


def _tasks(block: str) -> Iterator[str]:
    """The addresses of a block that tasks may have: all but its own, the gateway and the last."""
    network = ip_network(block)
    if room := max(0, network.num_addresses - 3):
        yield f"{network[2]}-{network[-2]}" if room > 1 else str(network[2])


def _any(items: Iterable[str]) -> str:
    return f"{{ {', '.join(sorted(items))} }}"


def _map(items: Mapping[str, str]) -> str:
    return _any(f"{key} : {value}" for key, value in items.items())
