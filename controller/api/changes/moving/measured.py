"""Nodes' reports of what their copies of volumes use. PURE.

An agent is not trusted: it reports on its own copies alone, in numbers that a disk may have. What
it reports is observed state, written behind; small differences are not written.
"""

from collections.abc import Iterable
from itertools import islice

from msgspec.structs import replace

from pyswarm_core.clock import MINUTE, Instant
from pyswarm_core.ids import NodeId
from pyswarm_core.state import State
from pyswarm_core.volumes.limits import VOLUME_USAGE_PER_MESSAGE
from pyswarm_core.volumes.volume import MeasuredVolume, Volume, VolumeId, VolumeUsage

_BYTES_MAX = 1 << 62
_STEP = 64 * 1024
"""Bytes; a smaller difference, or one of less than a hundredth, is not written."""
_OLD = 60 * MINUTE
"""The time of a measurement is written at least this often."""


def measured(
    state: State, node_id: NodeId, reports: Iterable[MeasuredVolume], now: Instant
) -> list[Volume]:
    """The volumes as the node's report changes them."""
    held = state.copies.of_node(node_id)
    changed: dict[VolumeId, Volume] = {}
    for report in islice(reports, VOLUME_USAGE_PER_MESSAGE):
        volume = changed.get(report.id) or held.get(report.id)
        if volume is None or node_id not in volume.copies:
            continue
        old = next((one for one in volume.usage if one.node_id == node_id), VolumeUsage())
        new = _bounded(report.usage, node_id, old, now)
        kept = tuple(one for one in volume.usage if one.node_id in volume.copies)
        if _differs(old, new) or kept != volume.usage:
            others = tuple(one for one in kept if one.node_id != node_id)
            changed[report.id] = replace(volume, usage=(*others, new))
    return list(changed.values())


def _bounded(told: VolumeUsage, node_id: NodeId, old: VolumeUsage, now: Instant) -> VolumeUsage:
    return VolumeUsage(
        node_id=node_id,
        bytes=min(max(told.bytes, 0), _BYTES_MAX) if told.measured_at else old.bytes,
        inodes=min(max(told.inodes, 0), _BYTES_MAX) if told.measured_at else old.inodes,
        measured_at=min(told.measured_at, now) if told.measured_at else old.measured_at,
        last_used_at=max(min(told.last_used_at, now), old.last_used_at),
    )


def _differs(old: VolumeUsage, new: VolumeUsage) -> bool:
    if new.last_used_at != old.last_used_at or new.measured_at >= old.measured_at + _OLD:
        return True
    least = max(_STEP, old.bytes // 100)
    return abs(new.bytes - old.bytes) >= least or abs(new.inodes - old.inodes) > old.inodes // 100
