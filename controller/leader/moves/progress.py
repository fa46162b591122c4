"""How far a move is, as its followers see it. PURE values.

The figures are in the leader's memory alone: a new leader begins the copy again.
"""

from pyswarm_core.clock import Instant
from pyswarm_core.model import Model


class MoveProgress(Model, frozen=True):
    """A copy that is under way. The copier replaces it as bytes arrive, at most once a second, and
    removes it when the copy has ended.
    """

    copied: int = 0
    """Bytes that the destination has."""
    total: int = 0
    """Bytes of the source's archive; 0: not known."""
    begun_at: Instant = Instant(0)
    """When this attempt began: the rate is `copied` by the time since."""
    attempt: int = 1
    """An attempt that broke is repeated from the beginning."""
