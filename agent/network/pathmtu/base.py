"""The part of a dataplane that measures path MTUs between hosts.

`measure.py` (real) and `fake.py` (in memory) implement `PathMtu` and pass the same contract tests.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

LOOK_PERIOD_S = 5.0
"""How often new hosts, and hosts that full packets do not reach, are measured."""


class PathMtu(Protocol):
    """Path MTUs from this host."""

    @property
    def measured(self) -> Mapping[str, int]:
        """The path MTU by address; hosts that never answered are left out."""
        ...

    async def measure(self, addresses: Iterable[str], most: int) -> bool:
        """Measure the hosts that are due, up to the MTU `most` of this host's own device. Returns
        whether a path MTU changed.
        """
        ...
