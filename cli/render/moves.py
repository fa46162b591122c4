"""One line for a move of a volume. PURE."""

from cli.render.listing import one_line
from pyswarm_core.docker.units import human_size
from pyswarm_core.volumes.moves import COPYING, STOPPING, VolumeMove


def phase_of(move: VolumeMove) -> str:
    """What the line says, without its figures: another one is worth a new line in a pipe."""
    if move.phase == COPYING and move.attempt > 1:
        return f"{COPYING} {move.attempt}"
    if move.phase or move.failure:
        return move.phase or "failed"
    return "done" if move.running >= move.desired else "starting"


def line_of(move: VolumeMove) -> str:
    """`data: copying 1.2GiB of 3GiB at 110MiB/s`."""
    return f"{move.name}: {_words(move)}"


def _words(move: VolumeMove) -> str:
    if move.phase == STOPPING:
        return f"stopping tasks: {', '.join(move.waits_for)}"
    if move.phase == COPYING:
        return _copying(move)
    if move.failure:
        return f"failed, stays on {move.source}: {one_line(move.failure)}"
    if move.running < move.desired:
        return f"starting tasks on {move.source}: {move.running} of {move.desired} running"
    return f"done, on {move.source}"


def _copying(move: VolumeMove) -> str:
    total = f" of {human_size(move.total)}" if move.total else ""
    rate = f" at {human_size(move.rate)}/s" if move.rate else ""
    again = f", attempt {move.attempt}" if move.attempt > 1 else ""
    return f"copying to {move.to}: {human_size(move.copied)}{total}{rate}{again}"
