"""The rules that take packets between tasks of one network on two hosts past the hooks of IP. PURE.

Such a packet is bridged and routed through two hosts, and every hook of IP looks at it: our rules,
conntrack, other people's rules. Nothing there may change it, so it is taken where it comes from the
task and sent out by the network's VXLAN device, with the next hop that its route names; on the
other host it is taken where it comes from that device, and handed to the task. A task that has no
chain of its own yet is served by the bridge and the bridge's chain.

Invariant: what takes the fast path would have passed by routing; whatever is in doubt (a sender's
address that is not its own, the hosts' own addresses, a packet at the end of its life) is routed,
and so is all of the ingress network and of encrypted ones. Nobody need ask whether a packet is too
big, since no port lets one in that is. Rules are few and short: each match costs some ten
nanoseconds, four times in a round trip.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_network

from agent.network.fastpath.base import Routed
from agent.network.filter.table import Chain, Elements, Table
from agent.network.names import Names
from agent.network.overlay.plan import AddressFamily, families, has_fast_path
from agent.network.overlay.plug import Plug

_CHAIN = "from_"


def fast_path_table(routed: Routed, names: Names, plugs: Iterable[Plug]) -> Table | None:
    """The netdev table; None if no network has a fast path. All `plugs` must be there."""
    rules: dict[str, list[str]] = {}
    elements: dict[str, Elements] = {}
    plugged: dict[str, list[Plug]] = {}
    for plug in plugs:
        plugged.setdefault(plug.bridge, []).append(plug)
    for overlay in filter(has_fast_path, routed.overlays):
        bridge, vxlan = names.bridge(overlay.network_id), names.vxlan(overlay.network_id)
        for family in families(overlay, routed.underlay_mtu, routed.paths):
            here = [tasks for block in family.local_blocks for tasks in _tasks(block)]
            # A peer that full packets do not get to has an MTU of its own: only routing obeys.
            full = (peer for peer in family.peers if not peer.mtu)
            hops = [f"{t} : {p.via}" for p in full for block in p.blocks for t in _tasks(block)]
            if not (here and hops):
                continue
            path = _Path(family, bridge, vxlan)
            elements[path.hops] = path.map(hops)
            ports = _ports(plugged.get(bridge, []), family)
            for sender, device in ((_any(here), bridge), *ports.items()):
                rules.setdefault(device, []).append(path.out(sender))
            rules.setdefault(vxlan, []).extend(path.into(ports, _any(here)))
    chains = {f"{_CHAIN}{device}": _at(device, of_device) for device, of_device in rules.items()}
    return Table(elements=elements, chains=chains, family="netdev") if chains else None


def addresses(plugs: Iterable[Plug]) -> Iterator[tuple[str, str]]:
    """The addresses that the fast path forwards to; those of two networks may be the same."""
    return ((plug.bridge, task.address) for plug in plugs for task in plug.neighbours)


def users(table: Table | None, names: Names) -> tuple[int, int]:
    """How many networks, and how many interfaces of tasks, have rules in the table."""
    devices = [label.removeprefix(_CHAIN) for label in table.chains] if table else []
    of_networks = sum(map(names.carries, devices))
    return of_networks // 2, len(devices) - of_networks


class _Path:
    """The fast path of one network in one IP version, in nft's words."""

    def __init__(self, family: AddressFamily, bridge: str, vxlan: str) -> None:
        self._family, life = ("ip6", "hoplimit") if family.six else ("ip", "ttl")
        self._alive = f"{self._family} {life} > 1"
        self._bridge, self._vxlan = bridge, vxlan
        self.hops = f"hops{'6' if family.six else ''}_{bridge}"
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


def _ports(plugs: Iterable[Plug], family: AddressFamily) -> dict[str, str]:
    """By address, the device of the task that has it."""
    return {
        task.address: task.device
        for plug in plugs for task in plug.neighbours if (":" in task.address) == family.six
    }  # fmt: skip


def _tasks(block: str) -> Iterator[str]:
    """The addresses of a block that tasks may have: all but its own, the gateway and the last."""
    network = ip_network(block)
    if room := max(0, network.num_addresses - 3):
        yield f"{network[2]}-{network[-2]}" if room > 1 else str(network[2])


def _any(items: Iterable[str]) -> str:
    return f"{{ {', '.join(sorted(items))} }}"
