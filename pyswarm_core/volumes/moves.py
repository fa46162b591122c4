"""How far a volume is on its way to another node, as users see it. PURE values."""

from pyswarm_core.clock import Instant
from pyswarm_core.model import Model
from pyswarm_core.volumes.volume import VolumeId

STOPPING = "stopping"
"""Tasks that mount the volume have not ended."""
COPYING = "copying"
"""The leader copies its files."""


class VolumeMove(Model, frozen=True, kw_only=True):
    """A move that is under way, or how the last one ended."""

    id: VolumeId
    name: str
    phase: str = ""
    """STOPPING, COPYING, or empty: it is not being moved."""
    source: str = ""
    """The hostname of the node with the copy; the id of a removed one."""
    to: str = ""
    """The hostname of the destination."""
    started_at: Instant = Instant(0)
    copied: int = 0
    total: int = 0
    """In bytes; 0: not known."""
    rate: int = 0
    """Bytes per second of this attempt."""
    attempt: int = 0
    waits_for: tuple[str, ...] = ()
    """The names of tasks that have yet to end, at most five."""
    failure: str = ""
    """Why the last move failed."""
    running: int = 0
    """Tasks of its services that run."""
    desired: int = 0
    """Tasks of its services that should run."""
