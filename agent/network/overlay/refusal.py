"""The networks that this host must not carry, and the faults of the others. PURE.

A network that is not carried has no device: packets that must be encrypted never leave in plaintext
because something is missing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from agent.network.base import HOST_BRIDGE, DesiredOverlay, Fault, NetworkFailed
from agent.network.encryption.ipsec import is_encrypted
from agent.network.filter.table import Unit
from agent.network.names import Names
from agent.network.overlay.plan import IPV6_MTU_MIN, Refusal, network_mtu
from agent.network.state import DeviceAddress, Link, Route
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.states import Capability

TaskRefusal = tuple[TaskId, tuple[NetworkId, ...], str]
"""A task whose namespace refused its rules, its networks, and why."""


def needed(overlays: Iterable[DesiredOverlay]) -> frozenset[Capability]:
    """The kernel capabilities that these networks need."""
    return frozenset(capability for overlay in overlays for capability, _ in _needs(overlay))


def refusals(
    overlays: Iterable[DesiredOverlay], lacks: Mapping[Capability, str], underlay_mtu: int
) -> dict[NetworkId, str]:
    """The networks that cannot be carried, each with one line for its tasks; `lacks` gives the
    reason for each missing capability.
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
        yield "is encrypted: this host has received no keys for it"
    if overlay.subnet6 and (mtu := network_mtu(overlay, underlay_mtu)) < IPV6_MTU_MIN:
        # The kernel disables IPv6 on a device with a smaller MTU.
        yield (
            f"is dual-stack, which requires an MTU of at least {IPV6_MTU_MIN} bytes: with"
            f" {underlay_mtu} between hosts it is {mtu}"
        )


def _needs(overlay: DesiredOverlay) -> Iterator[tuple[Capability, str]]:
    if is_encrypted(overlay):
        yield Capability.ESP, "is encrypted"
    if overlay.subnet6:
        yield Capability.IPV6, "is dual-stack"


def of_kernel(
    overlays: Iterable[DesiredOverlay], names: Names, refused: Sequence[Refusal]
) -> tuple[Fault, ...]:
    """The faults of networks. Raises NetworkFailed for the first that concerns the host as a
    whole.
    """
    owner: dict[str, NetworkId] = {}
    for overlay in overlays:
        owner[names.bridge(overlay.network_id)] = overlay.network_id
        owner[names.vxlan(overlay.network_id)] = overlay.network_id
        # The unreachable route to a network's unassigned addresses has no device.
        owner[overlay.subnet] = owner[overlay.subnet6] = overlay.network_id
    found = []
    for one in refused:
        place = one.device or (one.entry.dst if isinstance(one.entry, Route) else "")
        network_id = owner.get(place) if place else None
        if network_id is not None:
            # Without a device, or an address of its own, the network does not work at all.
            whole = isinstance(one.entry, (Link, DeviceAddress, str))
            found.append(Fault(network_id=network_id, reason=str(one), whole=whole))
        elif not place:
            raise NetworkFailed(str(one))
    return tuple(found)


def of_encryption(
    overlays: Iterable[DesiredOverlay], refused_peers: Mapping[str, str]
) -> tuple[Fault, ...]:
    """The faults of encrypted networks. `refused_peers`: hosts to which encryption failed, and
    why.
    """
    return tuple(
        Fault(
            network_id=o.network_id,
            reason=f"cannot encrypt to host {peer.address}: {refused_peers[peer.address]}",
        )
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
    """All faults, each once: of networks that this host does not carry, of its devices, its packet
    filter, and its tasks' rules.
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
