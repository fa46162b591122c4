"""The part of a dataplane that filters and translates the host's packets: it keeps networks apart
and forwards published ports.

`nft.py` (real) and `fake.py` (in memory) implement `Filter` and pass the same contract tests.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from agent.network.base import DesiredEndpoint, DesiredOverlay, Drift, Published
from agent.network.filter.table import Unit


class Filter(Protocol):
    """No two of the async methods may overlap. Each raises NetworkFailed when nft refuses."""

    @property
    def refused(self) -> Mapping[Unit, str]:
        """What is left out of the rules since the kernel refused it, and why."""
        ...

    async def sync(
        self,
        overlays: Sequence[DesiredOverlay],
        endpoints: Sequence[DesiredEndpoint] = (),
        published: Sequence[Published] = (),
    ) -> None:
        """Have the rules of exactly these; without a network there are none. UDP flows to backends
        that left are forgotten.
        """
        ...

    async def update(
        self, before: Sequence[DesiredEndpoint], now: Sequence[DesiredEndpoint]
    ) -> bool:
        """Have these endpoints as they are `now` instead of `before`; False if only `sync` can."""
        ...

    async def check(self) -> tuple[Drift, ...]:
        """Whether somebody changed the rules; `sync` heals them."""
        ...

    async def record_listing(self) -> None:
        """Read what was just written, before another table of the host is changed."""
        ...

    def dropped(self, counter: str) -> int:
        """How many packets one of the counters (SPOOFED, PLAINTEXT) has seen; from any thread."""
        ...
