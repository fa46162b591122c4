"""The part of a dataplane that measures path MTUs between hosts.

`measure.py` (real) and `fake.py` (in memory) implement `PathMtu` and pass the same contract tests.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

LOOK_PERIOD_S = 5.0
"""How often new hosts are met, and hosts looked at again that do not get full packets."""


class PathMtu(Protocol):
    """Path MTUs from this host."""

    @property
    def measured(self) -> Mapping[str, int]:
        """By address, the largest packet that gets there; who never answered is left out."""
        ...

    async def measure(self, addresses: Iterable[str], most: int) -> bool:
        """Measure those whose turn it is, up to the size that this host's own device takes; whether
        anything is other than it was.
        """
        ...
