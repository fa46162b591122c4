"""Which networks this host must not carry, and why. PURE.

They get no device at all: what is to be encrypted never leaves in the clear for want of something.
"""

from collections.abc import Iterable, Iterator, Mapping

from agent.network.base import OverlayWanted
from agent.network.encryption.ipsec import is_encrypted
from pyswarm_core.ids import NetworkId
from pyswarm_core.objects import Capability

_KEYLESS = "the controller has told this host no keys for it"


def needed(overlays: Iterable[OverlayWanted]) -> frozenset[Capability]:
    """What the kernel must have to carry all of them."""
    return frozenset(capability for overlay in overlays for capability, _ in _needs(overlay))


def refusals(
    overlays: Iterable[OverlayWanted], lacks: Mapping[Capability, str]
) -> dict[NetworkId, str]:
    """The networks that cannot be carried, each with a line for its tasks; `lacks` says what keeps
    this host from it.
    """
    refused = {}
    for overlay in overlays:
        reasons = [
            f"network {overlay.name} {what}: {lacks[capability]}"
            for capability, what in _needs(overlay)
            if capability in lacks
        ]
        if is_encrypted(overlay) and not overlay.encryption_keys:
            reasons.append(f"network {overlay.name} is encrypted: {_KEYLESS}")
        if reasons:
            refused[overlay.network_id] = reasons[0]
    return refused


def _needs(overlay: OverlayWanted) -> Iterator[tuple[Capability, str]]:
    if is_encrypted(overlay):
        yield Capability.ESP, "is encrypted"
    if overlay.subnet6:
        yield Capability.IPV6, "is dual-stack"
