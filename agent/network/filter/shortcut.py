"""The short way of what goes from task to task of one network on another host. PURE.

Such a packet is bridged and routed through two hosts, and every hook of IP looks at it: of our
rules, of conntrack, of other people's. Nothing there may change it, so it is taken where it comes
from the task and put out by the network's VXLAN device, with the next hop that its route names; on
the other host where it comes from that device, and handed to the task. A task that has no chain of
its own yet is served by the bridge and its chain.

Invariant: what goes the short way would have passed by the long one; whatever is in doubt (a
sender's address that is not its own, the hosts' own addresses, a packet at the end of its life) is
left to that, and so is all of the ingress network and of encrypted ones. Nobody need ask whether a
packet is too big, since no port lets one in that is. Rules are few and short: each match costs some
ten nanoseconds, four times in a round trip.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_network

from agent.network.base import OverlayWanted
from agent.network.filter.table import Chain, Elements, Table
from agent.network.names import Names
from agent.network.plan import Side, has_shortcut, sides
from agent.network.plug import Plug


def shortcuts(
    overlays: Sequence[OverlayWanted],
    names: Names,
    underlay_mtu: int,
    paths: Mapping[str, int],
    plugs: Iterable[Plug],
) -> Table | None:
    """The netdev table; None if no network has a short way. `paths` are those of `plan.wanted`; all
    `plugs` must be there.
    """
    rules: dict[str, list[str]] = {}
    elements: dict[str, Elements] = {}
    plugged: dict[str, list[Plug]] = {}
    for plug in plugs:
        plugged.setdefault(plug.bridge, []).append(plug)
    for overlay in filter(has_shortcut, overlays):
        bridge, vxlan = names.bridge(overlay.network_id), names.vxlan(overlay.network_id)
        for side in sides(overlay, underlay_mtu, paths):
            here = [tasks for block in side.local_blocks for tasks in _tasks(block)]
            # A peer that full packets do not get to has an MTU of its own: only routing obeys.
            far = (peer for peer in side.peers if not peer.mtu)
            hops = [f"{t} : {p.via}" for p in far for block in p.blocks for t in _tasks(block)]
            if not (here and hops):
                continue
            way = _Way(side, bridge, vxlan)
            elements[way.hops] = way.map(hops)
            ports = _ports(plugged.get(bridge, []), side)
            for sender, device in ((_any(here), bridge), *ports.items()):
                rules.setdefault(device, []).append(way.out(sender))
            rules.setdefault(vxlan, []).extend(way.into(ports, _any(here)))
    chains = {f"from_{device}": _at(device, of_device) for device, of_device in rules.items()}
    return Table(elements=elements, chains=chains, family="netdev") if chains else None


class _Way:
    """The way of one network in one IP version, in nft's words."""

    def __init__(self, side: Side, bridge: str, vxlan: str) -> None:
        self._family, life = ("ip6", "hoplimit") if side.six else ("ip", "ttl")
        self._alive = f"{self._family} {life} > 1"
        self._bridge, self._vxlan = bridge, vxlan
        self.hops = f"hops{'6' if side.six else ''}_{bridge}"
        """The map of other hosts' tasks to their next hops."""

    def map(self, hops: Iterable[str]) -> Elements:
        kind = "ipv6_addr" if self._family == "ip6" else "ipv4_addr"
        return Elements(f"{kind} : {kind}", frozenset(hops), values=True, interval=True)

    def out(self, sender: str) -> str:
        """What this sender sends another host's task."""
        to = f"{self._family} to {self._family} daddr map @{self.hops}"
        return f'{self._family} saddr {sender} {self._alive} fwd {to} device "{self._vxlan}"'

    def into(self, ports: Mapping[str, str], here: str) -> Iterator[str]:
        """What comes for a task, then for one whose port is not known yet."""
        to = f"{self._alive} fwd {self._family} to {self._family} daddr device"
        if ports:
            known = _any(f'{address} : "{port}"' for address, port in ports.items())
            yield f"{to} {self._family} daddr map {known}"
        yield f'{self._family} daddr {here} {to} "{self._bridge}"'


def _at(device: str, rules: Sequence[str]) -> Chain:
    hook = f'type filter hook ingress device "{device}" priority 0;'
    return Chain(tuple(rules), hook=hook)


def _ports(plugs: Iterable[Plug], side: Side) -> dict[str, str]:
    """By address, the device of the task that has it."""
    return {
        neighbour.address: neighbour.device
        for plug in plugs for neighbour in plug.neighbours if (":" in neighbour.address) == side.six
    }  # fmt: skip


def _tasks(block: str) -> Iterator[str]:
    """The addresses of a block that tasks may have: all but its own, the gateway and the last."""
    network = ip_network(block)
    if room := max(0, network.num_addresses - 3):
        yield f"{network[2]}-{network[-2]}" if room > 1 else str(network[2])


def _any(items: Iterable[str]) -> str:
    return f"{{ {', '.join(sorted(items))} }}"
