"""Holds: a backup or restore has a volume's files for itself. PURE.

The controller that serves it extends the hold while it lasts; otherwise it ends by itself.
"""

from msgspec.structs import replace

from controller.api.changes.moving.work import next_version, require_idle, require_room
from controller.api.queries.lookup import find
from controller.brain.volumework import Change, released, same_work
from pyswarm_core.clock import Instant, after
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, quoted
from pyswarm_core.ids import IdSource
from pyswarm_core.kinds import VOLUME
from pyswarm_core.state import State
from pyswarm_core.volumes.limits import VOLUME_HOLD
from pyswarm_core.volumes.volume import Volume, VolumeId, VolumeWork, VolumeWorkKind


def begin_hold(state: State, ref: str, reason: str, now: Instant) -> tuple[Writes, Volume]:
    """Hold the tasks of a volume for VOLUME_HOLD, longer if that is extended. `reason` completes
    "volume data is held: ".

    Raises NotFound, Conflict (it has work, or is being removed), Unavailable (too many have).
    """
    volume = find(state, VOLUME, ref)
    if volume.removing:
        raise Conflict(f"volume {quoted(volume.spec.name)} is being removed")
    require_idle(state, volume)
    require_room(state, 1)
    until = after(now, VOLUME_HOLD)
    work = VolumeWork(kind=VolumeWorkKind.HOLD, reason=reason, started_at=now, until=until)
    kept = replace(volume, work=work, version=next_version(volume), updated_at=now)
    return Writes(objects=(kept,)), kept


def extend_hold(volume_id: VolumeId, work: VolumeWork) -> Change:
    """The change that postpones the end of a hold. The result is None if it has ended."""

    def change(state: State, now: Instant, ids: IdSource) -> tuple[Writes, Volume | None]:
        volume = same_work(state, volume_id, work)
        if volume is None or volume.work is None:
            return Writes(), None
        longer = replace(volume.work, until=after(now, VOLUME_HOLD))
        kept = replace(volume, work=longer)
        return Writes(objects=(kept,)), kept

    return change


def release_hold(volume_id: VolumeId, work: VolumeWork) -> Change:
    """The change that ends a hold. The result is None if it has ended already."""

    def change(state: State, now: Instant, ids: IdSource) -> tuple[Writes, Volume | None]:
        volume = same_work(state, volume_id, work)
        if volume is None:
            return Writes(), None
        kept = released(state, volume, now)
        return Writes(objects=(kept,)), kept

    return change
