"""Replacing a volume's files, where its copy is or on a node that gets one. PURE.

A node that is to get a copy is in a hold (`VolumeWork.to`) until it has all of it: then it becomes
the copy in one write, otherwise it deletes what it has. So no task ever starts on half a copy.
"""

from collections.abc import Callable
from itertools import islice

from msgspec.structs import replace

from controller.api.changes.moving.holds import begin_hold
from controller.api.changes.moving.lost import forget_copy
from controller.api.changes.moving.work import require_idle, require_own, require_room
from controller.api.queries.lookup import find
from controller.brain.volumework import Change, same_work, writers
from pyswarm_core.clock import Instant, after
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, NotFound, Unavailable, quoted
from pyswarm_core.ids import IdSource, NodeId
from pyswarm_core.kinds import NODE, VOLUME
from pyswarm_core.objects import Node
from pyswarm_core.state import State
from pyswarm_core.states import Availability, NodeState
from pyswarm_core.volumes.limits import COPIES_PROTOCOL, VOLUME_HOLD
from pyswarm_core.volumes.volume import Volume, VolumePlacement, VolumeWork, VolumeWorkKind

Begin = Callable[[State, Instant, IdSource], tuple[Writes, Volume]]
RESTORED = "it is being restored"
"""The reason of the hold."""
_NAMED = 3


def begin_backup(ref: str) -> Begin:
    """The change that stops the tasks of a volume for a backup."""
    return lambda state, now, ids: begin_hold(state, ref, "it is being backed up", now)


def begin_restore(ref: str, node: str, *, hold: bool) -> Begin:
    """The change before the files of a volume are replaced. Where it has a copy, that is held, so
    that it is not moved meanwhile; `hold` says that its tasks may be stopped for that. A volume
    without a copy gets one on the node that is named, or else on a node that is ready and has the
    fewest volumes; one whose copy is on a lost node, on the node that is named.

    Raises NotFound, Conflict and Unavailable.
    """

    def change(state: State, now: Instant, ids: IdSource) -> tuple[Writes, Volume]:
        volume = find(state, VOLUME, ref)
        if volume.removing:
            raise NotFound(f"no such volume: {quoted(volume.spec.name)} is being removed")
        require_own(volume)
        require_idle(state, volume)
        node_id = _target(state, volume, node)
        if node_id in volume.copies:
            if not hold and not _is_unused(state, volume):
                return Writes(), volume  # it stays where it is: its agent decides
            return begin_hold(state, ref, RESTORED, now)
        if volume.copies and volume.spec.placement is VolumePlacement.PINNED:
            forget_copy(state, ref, volume.copies[0], now)  # whether it may be given up
        if node_id in volume.leaving:
            raise Conflict(
                f"node {quoted(node or node_id)} is deleting a former copy of volume"
                f" {volume.spec.name}: try again"
            )
        require_room(state, 1)
        until = after(now, VOLUME_HOLD)
        work = VolumeWork(
            kind=VolumeWorkKind.HOLD, to=node_id, reason=RESTORED, started_at=now, until=until
        )
        held = replace(volume, work=work, updated_at=now)
        return Writes(objects=(held,)), held

    return change


def finish_restore(volume: Volume, work: VolumeWork) -> Change:
    """The change once the agent has replaced the files: its node has the copy, and the hold ends.
    The result is None if the hold has ended meanwhile.
    """

    def change(state: State, now: Instant, ids: IdSource) -> tuple[Writes, Volume | None]:
        found = same_work(state, volume.id, work)
        if found is None or (work.to and work.to not in state.nodes):
            return Writes(), None
        done = replace(found, work=None, updated_at=now)
        if work.to:
            done = _with_copy(state, done, work.to)
        return Writes(objects=(done,)), done

    return change


def _with_copy(state: State, volume: Volume, node_id: NodeId) -> Volume:
    is_pinned = volume.spec.placement is VolumePlacement.PINNED
    lost = [one for one in volume.copies if is_pinned and one in state.nodes and one != node_id]
    kept = () if is_pinned else volume.copies
    forgotten = [one for one in (*volume.forgotten, *lost) if one != node_id]
    return replace(
        volume,
        copies=tuple(dict.fromkeys((*kept, node_id))),
        forgotten=tuple(dict.fromkeys(forgotten)),
    )


def _is_unused(state: State, volume: Volume) -> bool:
    """Whether no task mounts the volume. Raises Conflict if one may mount the only copy."""
    names = [service.name_of(task) for service, task in islice(writers(state, volume), _NAMED + 1)]
    if names and volume.home:
        more = " and others" if len(names) > _NAMED else ""
        raise Conflict(
            f"volume {volume.spec.name} is mounted by {', '.join(names[:_NAMED])}{more}: stop them,"
            " or use --stop"
        )
    return not names


def _target(state: State, volume: Volume, node: str) -> NodeId:
    if not node:
        return copy_of(state, volume, "") if volume.copies else _chosen(state, volume)
    found = find(state, NODE, node)
    if found.id not in volume.copies and (reason := _unfit(found)) is not None:
        raise Conflict(f"node {quoted(node)} {reason}: expected a node that is ready")
    return found.id


def copy_of(state: State, volume: Volume, node: str) -> NodeId:
    """The node of the copy that is meant, of several that of `node`. Raises NotFound, Conflict."""
    name = volume.spec.name
    if volume.removing:
        raise NotFound(f"no such volume: {quoted(name)} is being removed")
    if not volume.copies:
        raise NotFound(f"volume {name} has no files yet: no task has mounted it")
    if node:
        node_id = find(state, NODE, node).id
        if node_id not in volume.copies:
            raise NotFound(f"volume {name} has no copy on node {quoted(node)}")
        return node_id
    if len(volume.copies) > 1:
        raise Conflict(
            f"volume {name} has copies on {len(volume.copies)} nodes: name one with --node"
        )
    return volume.copies[0]


def _unfit(node: Node) -> str | None:
    """Why no copy is made on the node."""
    if node.status.state is not NodeState.READY:
        return f"is {node.status.state}"
    if node.spec.availability is not Availability.ACTIVE:
        return f"has the availability {node.spec.availability}"
    if node.description.spoken < COPIES_PROTOCOL:
        return f"has an agent with protocol {node.description.spoken}, which is too old"
    return None


def _chosen(state: State, volume: Volume) -> NodeId:
    left = (*volume.leaving, *volume.forgotten)
    fit = [one.id for one in state.nodes.values() if _unfit(one) is None and one.id not in left]
    if not fit:
        raise Unavailable(
            f"volume {volume.spec.name} has no copy yet, and no node is ready to have one"
        )
    return min(fit, key=lambda one: (len(state.copies.of_node(one)), one))
