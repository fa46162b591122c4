"""Which networks this host must not carry, and why. PURE.

They get no device at all: what is to be encrypted never leaves in the clear for want of something.
"""

from collections.abc import Iterable, Iterator, Mapping

from agent.network.base import OverlayWanted
from agent.network.encryption.ipsec import is_encrypted
from agent.network.plan import IPV6_MTU_MIN, network_mtu
from pyswarm_core.ids import NetworkId
from pyswarm_core.objects import Capability

_KEYLESS = "the controller has told this host no keys for it"


def needed(overlays: Iterable[OverlayWanted]) -> frozenset[Capability]:
    """What the kernel must have to carry all of them."""
    return frozenset(capability for overlay in overlays for capability, _ in _needs(overlay))


def refusals(
    overlays: Iterable[OverlayWanted], lacks: Mapping[Capability, str], underlay_mtu: int
) -> dict[NetworkId, str]:
    """The networks that cannot be carried, each with a line for its tasks; `lacks` says what keeps
    this host from it.
    """
    reasons = {o.network_id: (o.name, list(_reasons(o, lacks, underlay_mtu))) for o in overlays}
    return {
        network_id: f"network {name} {found[0]}"
        for network_id, (name, found) in reasons.items()
        if found
    }


def _reasons(
    overlay: OverlayWanted, lacks: Mapping[Capability, str], underlay_mtu: int
) -> Iterator[str]:
    for capability, what in _needs(overlay):
        if capability in lacks:
            yield f"{what}: {lacks[capability]}"
    if is_encrypted(overlay) and not overlay.encryption_keys:
        yield f"is encrypted: {_KEYLESS}"
    if overlay.subnet6 and (mtu := network_mtu(overlay, underlay_mtu)) < IPV6_MTU_MIN:
        # The kernel takes IPv6 off a device with less.
        yield (
            f"is dual-stack, which needs packets of {IPV6_MTU_MIN} bytes: with an MTU of"
            f" {underlay_mtu} between hosts it has {mtu}"
        )


def _needs(overlay: OverlayWanted) -> Iterator[tuple[Capability, str]]:
    if is_encrypted(overlay):
        yield Capability.ESP, "is encrypted"
    if overlay.subnet6:
        yield Capability.IPV6, "is dual-stack"
