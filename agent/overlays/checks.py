"""Removes from an assignment what no kernel can implement. PURE.

Controllers validate what nodes report; older ones did not, and a file may be damaged. An invalid
entry costs itself only: a peer, an endpoint, or the network.
"""

from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network

from msgspec.structs import replace

from agent.network.base import DesiredEndpoint, DesiredOverlay, Fault, Peer
from pyswarm_core.limits import VNI_MAX
from pyswarm_core.validation import address_problems


def checked_overlay(
    overlay: DesiredOverlay, own_address: str
) -> tuple[DesiredOverlay | None, list[Fault]]:
    """The network without its invalid peers; None if the network itself is invalid."""
    if reason := _invalid_reason(overlay):
        text = f"network {overlay.name[:64]!r} is not valid: {reason}"
        fault = Fault(network_id=overlay.network_id, reason=text, blocks=False, whole=True)
        return None, [fault]
    subnet = IPv4Network(overlay.subnet)
    kept: dict[int, Peer] = {}
    faults = []
    for peer in overlay.peers:
        wrong = _invalid_peer_reason(peer, subnet, own_address)
        if not wrong and peer.node_number in (*kept, overlay.node_number):
            wrong = "another host has the same number"
        if wrong:
            reason = f"peer {peer.node_number} at {peer.address[:64]!r} is not valid: {wrong}"
            faults.append(Fault(network_id=overlay.network_id, reason=reason, blocks=False))
        else:
            kept[peer.node_number] = peer
    if not faults:
        return overlay, []
    return replace(overlay, peers=tuple(kept.values())), faults


def endpoint_faults(endpoint: DesiredEndpoint) -> list[Fault]:
    """Why the endpoint cannot be programmed; empty if it can."""
    wrong = (
        ""
        if not endpoint.vip or _address4(endpoint.vip)
        else f"virtual address {endpoint.vip[:64]!r}"
    )
    numbers = (n for port in endpoint.ports for n in (port.published_port, port.target_port))
    if not all(0 <= number < 65536 for number in numbers):
        wrong = "its ports: expected 0 to 65535"
    if not wrong:
        return []
    reason = f"service {endpoint.service_name[:64]!r} is not valid: {wrong}"
    return [Fault(network_id=endpoint.network_id, reason=reason, blocks=False)]


def _invalid_reason(overlay: DesiredOverlay) -> str:
    try:
        subnet = IPv4Network(overlay.subnet)
        blocks = [IPv4Network(block) for block in overlay.local_blocks]
        IPv6Network(overlay.subnet6 or "::/64")
        IPv4Address(overlay.gateway or "0.0.0.0")
    except ValueError as error:
        return str(error)
    if not all(block.subnet_of(subnet) for block in blocks):
        return f"its blocks are not in {subnet}"
    if not 0 < overlay.vni <= VNI_MAX:
        return f"VNI {overlay.vni}: expected 1 to {VNI_MAX}"
    return ""


def _invalid_peer_reason(peer: Peer, subnet: IPv4Network, own_address: str) -> str:
    problems = list(address_problems(peer.address))
    if problems:
        return problems[0].expected
    if peer.address == own_address:
        return "this is the host's own address"
    try:
        blocks = [IPv4Network(block) for block in peer.blocks]
        for address in peer.addresses6:
            IPv6Address(address)
    except ValueError as error:
        return str(error)
    return (
        ""
        if all(block.subnet_of(subnet) for block in blocks)
        else f"its blocks are not in {subnet}"
    )


def _address4(text: str) -> bool:
    try:
        IPv4Address(text)
    except AddressValueError:
        return False
    return True
