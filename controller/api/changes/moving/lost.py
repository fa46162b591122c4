"""Giving up the copy of a volume on a node that was lost. PURE."""

from msgspec.structs import replace

from controller.api.changes.moving.work import next_version, require_idle
from controller.api.queries.lookup import find
from controller.brain.volumework import failed
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, NotFound, invalid, quoted
from pyswarm_core.ids import NodeId
from pyswarm_core.kinds import NODE, VOLUME
from pyswarm_core.state import State
from pyswarm_core.states import NodeState
from pyswarm_core.volumes.volume import Volume, VolumeWorkKind, without


def forget_copy(
    state: State, ref: str, node_ref: str, now: Instant, *, force: bool = False
) -> tuple[Writes, Volume]:
    """Give up the copy of a volume on a node that is not ready: its tasks may run elsewhere, on an
    empty copy or on one that is restored. The files on the node stay until the volume is removed.

    Raises InvalidArgument (no copy there), NotFound, Conflict (the node is ready; `force` allows
    that), Conflict (it is held by a backup).
    """
    volume = find(state, VOLUME, ref)
    name = volume.spec.name
    node_id = _named_copy(state, volume, node_ref)
    node = state.nodes.get(node_id)
    if volume.removing:
        raise Conflict(f"volume {quoted(name)} is being removed")
    if node is not None and node.status.state is NodeState.READY and not force:
        host = node.description.hostname
        raise Conflict(
            f"node {quoted(host)} is ready and has the copy of volume {quoted(name)}: move it with"
            f" pyswarm volume move {name} --to NODE; --force gives it up"
        )
    if volume.work is not None and volume.work.kind is VolumeWorkKind.HOLD:
        require_idle(state, volume)
    if volume.work is not None:
        volume = failed(state, volume, "the copy on the source node was given up", now)
    forgotten = volume.forgotten if node is None else (*without(volume.forgotten, node_id), node_id)
    kept = replace(
        volume,
        copies=without(volume.copies, node_id),
        forgotten=forgotten,
        version=next_version(volume),
        updated_at=now,
    )
    return Writes(objects=(kept,)), kept


def _named_copy(state: State, volume: Volume, ref: str) -> NodeId:
    """The node of that name or id, which has a copy; it may have been removed."""
    if ref in volume.copies:
        return NodeId(ref)
    gone = [one for one in volume.copies if one not in state.nodes and one.startswith(ref)]
    if len(gone) == 1 and ref:
        return gone[0]
    try:
        node_id = find(state, NODE, ref).id
    except NotFound:
        node_id = NodeId("")
    if node_id not in volume.copies:
        known = [_host(state, one) for one in volume.copies]
        there = f"its copies are on {', '.join(known)}" if known else "it has no copy"
        name = quoted(volume.spec.name)
        raise invalid("NODE", ref, f"volume {name} has no copy there; {there}")
    return node_id


def _host(state: State, node_id: NodeId) -> str:
    node = state.nodes.get(node_id)
    return node.description.hostname if node is not None else node_id
