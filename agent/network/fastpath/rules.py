"""The rules that forward packets between tasks of one network on two hosts past the hooks of IP.
PURE.

A routed packet between such tasks is bridged and routed on two hosts, and every hook of IP
processes it: our rules, conntrack, other people's rules. None of them may change it. The fast path
takes the packet where it leaves the task and sends it out by the network's VXLAN device, to the
next hop of its route; on the other host it takes the packet where it leaves that device and hands
it to the task. A task without a chain of its own is served by the bridge and the bridge's chain.

Invariant: every packet of the fast path would have passed by routing. Packets that might not
(another sender's source address, the hosts' own addresses, a TTL of 1) are routed, and so are all
packets of the ingress network and of encrypted networks. The rules do not check a packet's size,
since no port accepts one that is too big. Rules are few and short: each match costs about ten
nanoseconds, four times per round trip.
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
    """The netdev table; None if no network has a fast path. All `plugs` must exist."""
    rules: dict[str, list[str]] = {}
    elements: dict[str, Elements] = {}
    plugged: dict[str, list[Plug]] = {}
    for plug in plugs:
        plugged.setdefault(plug.bridge, []).append(plug)
    for overlay in filter(has_fast_path, routed.overlays):
        bridge, vxlan = names.bridge(overlay.network_id), names.vxlan(overlay.network_id)
        for family in families(overlay, routed.underlay_mtu, routed.paths):
            here = [tasks for block in family.local_blocks for tasks in _tasks(block)]
            # A peer that full packets do not reach has an MTU of its own, which only routing
            # applies.
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
    """The addresses that the fast path forwards to, with the bridge: two networks may use the
    same.
    """
    return ((plug.bridge, task.address) for plug in plugs for task in plug.neighbours)


def users(table: Table | None, names: Names) -> tuple[int, int]:
    """The number of networks, and of tasks' interfaces, that have rules in the table."""
    devices = [label.removeprefix(_CHAIN) for label in table.chains] if table else []
    of_networks = sum(map(names.carries, devices))
    return of_networks // 2, len(devices) - of_networks


class _Path:
    """The fast path of one network in one IP version, in nft's syntax."""

    def __init__(self, family: AddressFamily, bridge: str, vxlan: str) -> None:
        self._family, life = ("ip6", "hoplimit") if family.six else ("ip", "ttl")
        self._alive = f"{self._family} {life} > 1"
        self._bridge, self._vxlan = bridge, vxlan
        self.hops = f"hops{'6' if family.six else ''}_{bridge}"
        """The map from other hosts' tasks to their next hops."""

    def map(self, hops: Iterable[str]) -> Elements:
        kind = "ipv6_addr" if self._family == "ip6" else "ipv4_addr"
        return Elements(f"{kind} : {kind}", frozenset(hops), values=True, interval=True)

    def out(self, sender: str) -> str:
        """The rule for packets from this sender to another host's task."""
        to = f"{self._family} to {self._family} daddr map @{self.hops}"
        return f'{self._family} saddr {sender} {self._alive} fwd {to} device "{self._vxlan}"'

    def into(self, ports: Mapping[str, str], here: str) -> Iterator[str]:
        """The rules for packets to a task, and to one whose port has no entry yet."""
        to = f"{self._alive} fwd {self._family} to {self._family} daddr device"
        if ports:
            known = _any(f'{address} : "{port}"' for address, port in ports.items())
            yield f"{to} {self._family} daddr map {known}"
        yield f'{self._family} daddr {here} {to} "{self._bridge}"'


def _at(device: str, rules: Sequence[str]) -> Chain:
    hook = f'type filter hook ingress device "{device}" priority 0;'
    return Chain(tuple(rules), hook=hook)


def _ports(plugs: Iterable[Plug], family: AddressFamily) -> dict[str, str]:
    """The device of each task, by address."""
    return {
        task.address: task.device
        for plug in plugs for task in plug.neighbours if (":" in task.address) == family.six
    }  # fmt: skip


def _tasks(block: str) -> Iterator[str]:
    """The addresses of a block that tasks may hold: all but the network's, the gateway's and the
    last.
    """
    network = ip_network(block)
    if room := max(0, network.num_addresses - 3):
        yield f"{network[2]}-{network[-2]}" if room > 1 else str(network[2])


def _any(items: Iterable[str]) -> str:
    return f"{{ {', '.join(sorted(items))} }}"
