"""Which refused requests get a record. PURE (mutable; time is an argument).

A token bucket per caller: a flood of refused requests costs a bounded number of records, and the
next record says how many requests of the caller have none.
"""

from pyswarm_core.clock import MINUTE, Instant
from pyswarm_core.identity.limits import REFUSALS_PER_MINUTE, REFUSED_CALLERS

_PERIOD = MINUTE // REFUSALS_PER_MINUTE


class Refusals:
    """The callers whose requests were refused; the one refused longest ago comes first."""

    def __init__(self) -> None:
        self._callers: dict[str, tuple[Instant, int]] = {}
        """The instant at which the bucket is full again, and how many were skipped."""

    def __len__(self) -> int:
        return len(self._callers)

    def admit(self, caller: str, now: Instant, *, room: bool) -> int | None:
        """Count a refused request. Return how many requests of the caller were skipped before it if
        this one is to be recorded, None if it is skipped too. Without `room` every request is
        skipped.
        """
        full_at, skipped = self._callers.pop(caller, (now, 0))
        full_at = max(full_at, now)
        admitted = room and full_at - now + _PERIOD <= MINUTE
        self._callers[caller] = (
            (Instant(full_at + _PERIOD), 0) if admitted else (full_at, skipped + 1)
        )
        if len(self._callers) > REFUSED_CALLERS:
            del self._callers[next(iter(self._callers))]
        return skipped if admitted else None
