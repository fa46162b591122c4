"""Which networks this host must not carry, and what its kernel refused of the others. PURE.

The former get no device at all: what is to be encrypted never leaves in the clear for want of
something.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from agent.network.base import HOST_BRIDGE, DesiredOverlay, Fault, NetworkFailed
from agent.network.encryption.ipsec import is_encrypted
from agent.network.filter.table import Unit
from agent.network.names import Names
from agent.network.overlay.plan import IPV6_MTU_MIN, Refusal, network_mtu
from agent.network.state import DeviceAddress, Link, Route
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.objects import Capability

TaskRefusal = tuple[TaskId, tuple[NetworkId, ...], str]
"""A task whose namespace refused its rules, its networks, and why."""
_KEYLESS = "the controller has told this host no keys for it"


def needed(overlays: Iterable[DesiredOverlay]) -> frozenset[Capability]:
    """What the kernel must have to carry all of them."""
    return frozenset(capability for overlay in overlays for capability, _ in _needs(overlay))


def refusals(
    overlays: Iterable[DesiredOverlay], lacks: Mapping[Capability, str], underlay_mtu: int
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
    overlay: DesiredOverlay, lacks: Mapping[Capability, str], underlay_mtu: int
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


def _needs(overlay: DesiredOverlay) -> Iterator[tuple[Capability, str]]:
    if is_encrypted(overlay):
        yield Capability.ESP, "is encrypted"
    if overlay.subnet6:
        yield Capability.IPV6, "is dual-stack"


def of_kernel(
    overlays: Iterable[DesiredOverlay], names: Names, refused: Sequence[Refusal]
) -> tuple[Fault, ...]:
    """The faults of networks. Raises NetworkFailed for the first that is the host's as a whole."""
    owner: dict[str, NetworkId] = {}
    for overlay in overlays:
        owner[names.bridge(overlay.network_id)] = overlay.network_id
        owner[names.vxlan(overlay.network_id)] = overlay.network_id
        # Where a network's addresses lead that no host has: a route without a device.
        owner[overlay.subnet] = owner[overlay.subnet6] = overlay.network_id
    found = []
    for one in refused:
        place = one.device or (one.entry.dst if isinstance(one.entry, Route) else "")
        network_id = owner.get(place) if place else None
        if network_id is not None:
            # Without a device or an address of its own the network is not there at all.
            whole = isinstance(one.entry, (Link, DeviceAddress, str))
            found.append(Fault(network_id=network_id, reason=str(one), whole=whole))
        elif not place:
            raise NetworkFailed(str(one))
    return tuple(found)


def of_encryption(
    overlays: Iterable[DesiredOverlay], refused_peers: Mapping[str, str]
) -> tuple[Fault, ...]:
    """The faults of encrypted networks. `refused_peers`: hosts that nothing can be encrypted to."""
    return tuple(
        Fault(network_id=o.network_id, reason=f"host {peer.address} {refused_peers[peer.address]}")
        for o in overlays
        if is_encrypted(o)
        for peer in o.peers
        if peer.address in refused_peers
    )


def gathered(
    overlays: Iterable[DesiredOverlay],
    uncarried: Mapping[NetworkId, str],
    kernel: Iterable[Fault],
    rules: Mapping[Unit, str],
    tasks: Iterable[TaskRefusal],
) -> tuple[Fault, ...]:
    """All of them: of networks that this host does not carry, of its devices, its packet filter and
    its tasks' rules; each once.
    """
    mesh = next((o.network_id for o in overlays if o.ingress), HOST_BRIDGE)
    found = [Fault(network_id=n, reason=reason, whole=True) for n, reason in uncarried.items()]
    found += kernel
    found += (Fault(network_id=mesh, reason=f"{unit}: {why}") for unit, why in rules.items())
    found += _of_tasks(tasks)
    return tuple(dict.fromkeys(found))


def _of_tasks(tasks: Iterable[TaskRefusal]) -> Iterator[Fault]:
    for task_id, networks, reason in tasks:
        for network_id in networks:
            yield Fault(network_id=network_id, reason=f"rules of task {task_id}: {reason}")
