"""Moving volumes to another node. PURE.

`begin_moves` checks everything before anything changes. What follows is in the volume:
controller/brain/volumework.py, docs/decisions/0030-moving-volumes.md.
"""

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from controller.api.changes.moving.work import (
    next_version,
    require_idle,
    require_own,
    require_room,
)
from controller.api.queries.lookup import find
from controller.api.queries.moves import volumes_named
from controller.brain.mounts import volumes_beside, volumes_of_spec
from controller.brain.volumes import volume_named
from controller.brain.volumework import failed
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, quoted
from pyswarm_core.kinds import NODE
from pyswarm_core.objects import Node, Service
from pyswarm_core.state import State
from pyswarm_core.states import Availability, NodeState
from pyswarm_core.volumes.limits import COPIES_PROTOCOL
from pyswarm_core.volumes.volume import (
    Volume,
    VolumePlacement,
    VolumeWork,
    VolumeWorkKind,
)

_CANCELLED = "it was cancelled"


class Unheard(Conflict):
    """A node has not connected to this leader yet: it may be ready in a moment."""


def _as_not_ready(node: Node, told: str) -> Conflict:
    return Unheard(told) if node.status.state is NodeState.UNKNOWN else Conflict(told)


def begin_moves(
    state: State, refs: Sequence[str], to: str, now: Instant, *, force: bool = False
) -> tuple[Writes, tuple[Volume, ...]]:
    """Begin to move volumes to one node: all of them, or none. One that is there, or on its way
    there, stays as it is. `force`: also to a node that a constraint of a service excludes.

    Raises InvalidArgument, NotFound, Conflict (Unheard: a node may be ready in a moment),
    Unavailable (too many volumes have work).
    """
    chosen = tuple(volumes_named(state, refs))
    node = find(state, NODE, to)
    begun = [one for one in chosen if _is_to_begin(one, node)]
    if begun:
        _require_destination(node)
        require_room(state, len(begun))
    for volume in begun:
        _require_movable(state, volume, node)
    names = [one.spec.name for one in chosen]
    for volume in begun:
        for service in _users(state, volume):
            _require_whole(state, service, volume, node, names)
            if not force:
                _require_allowed(state, service, volume, node)
    work = VolumeWork(kind=VolumeWorkKind.MOVE, to=node.id, started_at=now)
    moved = {
        one.id: replace(one, work=work, failure="", version=next_version(one), updated_at=now)
        for one in begun
    }
    return Writes(objects=tuple(moved.values())), tuple(moved.get(one.id, one) for one in chosen)


def _is_to_begin(volume: Volume, node: Node) -> bool:
    """Whether the volume is neither at the node nor on its way there."""
    if volume.removing:
        raise Conflict(f"volume {quoted(volume.spec.name)} is being removed")
    work = volume.work
    if work is not None and work.kind is VolumeWorkKind.MOVE:
        return work.to != node.id
    return volume.home != node.id


def _require_destination(node: Node) -> None:
    name = quoted(node.description.hostname)
    _require_ready(node, "destination")
    if node.spec.availability is not Availability.ACTIVE:
        word = "drained" if node.spec.availability is Availability.DRAIN else "paused"
        raise Conflict(
            f"--to: node {name} is {word}: choose another node, or run pyswarm node update"
            f" --availability active {node.description.hostname}"
        )


def _require_ready(node: Node, what: str) -> None:
    host = node.description.hostname
    if node.status.state is not NodeState.READY:
        told = f"the {what} node {quoted(host)} is {node.status.state}, not ready"
        raise _as_not_ready(node, told)
    if (spoken := node.description.spoken) < COPIES_PROTOCOL:
        raise Conflict(
            f"the agent on the {what} node {quoted(host)} has protocol {spoken}, which copies no"
            f" volumes: upgrade pyswarm there to one with protocol {COPIES_PROTOCOL}"
        )


def _require_movable(state: State, volume: Volume, node: Node) -> None:
    """The volume has one copy, on a node that can send it."""
    name, host = volume.spec.name, node.description.hostname
    require_own(volume)
    if volume.spec.placement is VolumePlacement.ANY:
        raise Conflict(
            f"volume {quoted(name)} has the placement any, a copy on each node that runs a task of"
            " it: there is nothing to move"
        )
    require_idle(state, volume)
    if not volume.home:
        raise Conflict(
            f"volume {quoted(name)} has no copy yet, so there is nothing to move: its first task"
            f" chooses the node; --constraint node.hostname=={host} of its service names one"
        )
    source = state.nodes.get(volume.home)
    if source is None:
        raise Conflict(
            f"volume {quoted(name)} has its only copy on node {volume.home}, which was removed:"
            f" give it up with pyswarm volume forget {name} {volume.home}"
        )
    if source.status.state is not NodeState.READY:
        lost = source.description.hostname
        raise _as_not_ready(
            source,
            f"volume {quoted(name)} has its only copy on node {quoted(lost)}, which is"
            f" {source.status.state}: wait until it is ready, or give up the copy with pyswarm"
            f" volume forget {name} {lost}",
        )
    _require_ready(source, "source")
    if node.id in volume.leaving:
        raise Conflict(
            f"node {quoted(host)} still deletes an old copy of volume {quoted(name)}: try again"
            " when `pyswarm volume inspect` no longer lists it in Leaving"
        )


def _users(state: State, volume: Volume) -> Iterator[Service]:
    """The services that mount the volume and are not being removed."""
    for service_id in state.copies.mounting(volume.spec.name):
        service = state.services.get(service_id)
        if service is None or service.removing:
            continue
        if volume.spec.name in volumes_of_spec(state, service, service.spec):
            yield service


def _require_whole(
    state: State, service: Service, volume: Volume, node: Node, names: Sequence[str]
) -> None:
    """The service has nothing else on the source that stays there."""
    name, host = service.spec.name, node.description.hostname
    if service.spec.mode.is_container and service.pinned_node not in ("", node.id):
        raise Conflict(
            f"container {name} mounts volume {quoted(volume.spec.name)} and has its writable layer"
            f" on another node than {quoted(host)}: remove it with pyswarm rm -f {name} first, and"
            " create it again afterwards"
        )
    for other_name in volumes_beside(state, service, volume.spec.name):
        other = volume_named(state, other_name)
        if other is None or other_name in names or other.home in ("", node.id):
            continue
        both = " ".join(dict.fromkeys((*names, other_name)))
        raise Conflict(
            f"service {name} also mounts volume {quoted(other_name)}, which is on another node than"
            f" {quoted(host)}: move both with pyswarm volume move {both} --to {host}"
        )


def _require_allowed(state: State, service: Service, volume: Volume, node: Node) -> None:
    """The service's tasks may run on the destination."""
    row = state.node_table.rows[node.id]
    for constraint in service.spec.task_template.placement.constraints:
        if not state.node_table.satisfying(constraint)[row]:
            raise Conflict(
                f"service {service.spec.name} mounts volume {quoted(volume.spec.name)}, and node"
                f" {quoted(node.description.hostname)} does not satisfy its constraint"
                f" {constraint}: choose another node, or use --force"
            )


def cancel_moves(
    state: State, refs: Sequence[str], now: Instant
) -> tuple[Writes, tuple[Volume, ...]]:
    """End the moves of these volumes: their tasks start where they were. All of them, or none.

    Raises NotFound, Conflict (one is not being moved).
    """
    volumes = volumes_named(state, refs)
    for volume in volumes:
        if volume.id not in state.copies.moves:
            raise Conflict(f"volume {quoted(volume.spec.name)} is not being moved")
    ended = tuple(failed(state, one, _CANCELLED, now) for one in volumes)
    return Writes(objects=ended), ended
