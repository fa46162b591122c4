"""How far moves of volumes are. PURE."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from controller.api.queries.lookup import find
from controller.brain.orchestrator.modes import orchestrator_of
from controller.brain.volumework import mounting, writers
from controller.leader.moves.progress import MoveProgress
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.ids import NodeId
from pyswarm_core.kinds import VOLUME
from pyswarm_core.state import State
from pyswarm_core.volumes.limits import VOLUMES_PER_MOVE
from pyswarm_core.volumes.moves import COPYING, STOPPING, VolumeMove
from pyswarm_core.volumes.volume import Volume, VolumeId

_NAMED = 5


def moves(
    state: State, refs: Sequence[str], progress: Mapping[VolumeId, MoveProgress], now: Instant
) -> list[VolumeMove]:
    """How far these volumes are. `progress`: of the copies that the leader makes.

    Raises InvalidArgument (none, too many), NotFound.
    """
    found = volumes_named(state, refs)
    return [_move(state, one, progress.get(one.id), now) for one in found]


def volumes_named(state: State, refs: Sequence[str]) -> list[Volume]:
    """These volumes, each once. Raises InvalidArgument (none, too many), NotFound."""
    if not refs:
        raise InvalidArgument("no volume: name at least one")
    if len(refs) > VOLUMES_PER_MOVE:
        raise InvalidArgument(f"{len(refs)} volumes: expected at most {VOLUMES_PER_MOVE} at a time")
    return list({one.id: one for one in (find(state, VOLUME, ref) for ref in refs)}.values())


def _move(state: State, volume: Volume, progress: MoveProgress | None, now: Instant) -> VolumeMove:
    services = list(mounting(state, volume))
    is_moved = volume.id in state.copies.moves
    work = volume.work if is_moved else None
    told = VolumeMove(
        id=volume.id,
        name=volume.spec.name,
        source=_host(state, volume.home),
        failure=volume.failure,
        running=sum(state.tasks_of_service(one.id).running for one in services),
        desired=sum(orchestrator_of(one).desired(state, one) for one in services),
    )
    if work is None:
        return told
    waits_for = tuple(islice(_unfinished(state, volume), _NAMED))
    got = progress or MoveProgress()
    elapsed = max(now - got.begun_at, 1)
    return VolumeMove(
        id=told.id,
        name=told.name,
        source=told.source,
        running=told.running,
        desired=told.desired,
        phase=STOPPING if waits_for else COPYING,
        to=_host(state, work.to),
        started_at=work.started_at,
        waits_for=waits_for,
        copied=got.copied,
        total=got.total,
        rate=got.copied * SECOND // elapsed if progress else 0,
        attempt=got.attempt if progress else 0,
    )


def _unfinished(state: State, volume: Volume) -> Iterator[str]:
    for service, task in writers(state, volume):
        yield service.name_of(task)


def _host(state: State, node_id: NodeId) -> str:
    node = state.nodes.get(node_id)
    return node.description.hostname if node is not None else node_id
