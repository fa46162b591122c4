"""What changes of volumes with work share. PURE."""

from controller.brain.volumework import foreign, held
from pyswarm_core.errors import Conflict, Unavailable, quoted
from pyswarm_core.objects import Version
from pyswarm_core.state import State
from pyswarm_core.volumes.limits import VOLUME_WORK_MAX
from pyswarm_core.volumes.volume import Volume, VolumeWorkKind


def next_version(volume: Volume) -> Version:
    """Of a change that a user made."""
    return Version(index=volume.version.index + 1)


def require_room(state: State, count: int) -> None:
    """So many more volumes may have work. Raises Unavailable."""
    if len(state.copies.working) + count > VOLUME_WORK_MAX:
        raise Unavailable(
            f"{len(state.copies.working)} volumes are being moved or held, and at most"
            f" {VOLUME_WORK_MAX} may be: move fewer at a time, or wait"
        )


def require_own(volume: Volume) -> None:
    """Raise Conflict for a volume whose files are not pyswarm's own: no archive replaces them."""
    if why := foreign(volume):
        name = volume.spec.name
        raise Conflict(
            f"volume {quoted(name)} is neither moved nor replaced as a whole: {why}. To copy files"
            f" from it or into it, use pyswarm volume cp"
        )


def require_idle(state: State, volume: Volume) -> None:
    """The volume is neither moved nor held. Raises Conflict."""
    work, name = volume.work, volume.spec.name
    if work is None:
        return
    if work.kind is VolumeWorkKind.MOVE:
        raise Conflict(
            f"{held(state, volume)}: wait for it, or cancel it with pyswarm volume move --cancel"
            f" {name}"
        )
    raise Conflict(f"{held(state, volume)}: wait until that has ended")
