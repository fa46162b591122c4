"""Checks of packets that enter by a network's device, before conntrack. PURE.

A task may only send from its own network's addresses on this host. Packets between tasks of one
network are never translated on a host, so they bypass conntrack, which is worth some percent of the
throughput between hosts. This excludes the ingress network and packets from or to this host itself:
they may be answers to translated packets.

A client may use one source port for connections to a published port of several hosts. If these
hosts choose the same task, the connections have equal addresses and ports, and differ only in the
host that accepted them: its node number is their conntrack zone, in the original direction only.
Their answers share a zone, so the kernel gives the later ones another source port.
"""

from collections.abc import Iterator, Sequence

from agent.network.base import DesiredOverlay
from agent.network.filter.control import no_metadata
from agent.network.filter.table import Chain
from agent.network.ipam import gateway
from agent.network.names import Names
from pyswarm_core.addresses import address6, block6

SPOOFED = "spoofed"
"""The counter of dropped packets whose source address is not their sender's."""

ENTRY_ZONE = "entry_zone"
"""The chain that puts connections of the routing mesh in the zone of the host that accepted them.
"""
BY_ENTRY = Chain(("ct original zone set @ll,80,16",))
"""The last two bytes of the source MAC, the VTEP's: node numbers 65,536 apart share a zone."""

# route_localnet is on for localhost's published ports; tasks may not use it.
_NOT_TO_LOCALHOST = "ip daddr 127.0.0.0/8 drop"
_LINK_LOCAL = ("::", "fe80::/10")


def senders(
    overlay: DesiredOverlay, names: Names, data_path_port: int
) -> Iterator[tuple[str, Chain]]:
    """The chains of the network's devices, by name."""
    bridge, vxlan = names.bridge(overlay.network_id), names.vxlan(overlay.network_id)
    abroad = f"udp dport {data_path_port} ip daddr != {overlay.subnet} drop"
    to_hosts = (abroad, *_to_this_host(overlay, data_path_port))
    closed = (*to_hosts, *(no_metadata() if overlay.block_metadata else ()))
    yield f"from_{bridge}", Chain((_NOT_TO_LOCALHOST, *_own(overlay), *closed, *_direct(overlay)))
    if overlay.vni:
        to_this = _to_this_host(overlay, data_path_port)
        zone = (f"jump {ENTRY_ZONE}",) if overlay.ingress else ()
        yield f"from_{vxlan}", Chain((_NOT_TO_LOCALHOST, *to_this, *zone, *_direct(overlay)))


def _own(overlay: DesiredOverlay) -> Iterator[str]:
    spoofed = f"counter name {SPOOFED} drop"
    blocks = sorted(overlay.local_blocks)
    own = f"ip saddr != {_any(blocks)}" if blocks else "meta nfproto ipv4"
    yield f"{own} {spoofed}"
    blocks6 = [block6(overlay.subnet, overlay.subnet6, b) for b in blocks if overlay.subnet6]
    yield f"ip6 saddr != {_any((*_LINK_LOCAL, *blocks6))} {spoofed}"


def _to_this_host(overlay: DesiredOverlay, data_path_port: int) -> Iterator[str]:
    """Drop VXLAN frames made by a task: they would enter any network on the destination host."""
    if here := _here(overlay):
        yield f"udp dport {data_path_port} ip daddr {_any(here)} drop"


def _here(overlay: DesiredOverlay) -> list[str]:
    """The addresses of the network that belong to this host itself."""
    return sorted({*map(gateway, overlay.local_blocks), overlay.gateway} - {""})


def _direct(overlay: DesiredOverlay) -> Iterator[str]:
    if overlay.ingress or not overlay.vni:
        return
    here = _here(overlay)
    yield _untracked("ip", overlay.subnet, here)
    if overlay.subnet6:
        here6 = [address6(overlay.subnet, overlay.subnet6, address) for address in here]
        yield _untracked("ip6", overlay.subnet6, here6)


def _untracked(family: str, subnet: str, here: Sequence[str]) -> str:
    aside = f"{family} daddr != {_any(here)} " if here else ""
    return f"{family} saddr {subnet} {family} daddr {subnet} {aside}notrack"


def _any(items: Sequence[str]) -> str:
    return f"{{ {', '.join(items)} }}"
