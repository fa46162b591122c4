"""The part of a dataplane that filters and translates the host's packets: it isolates networks and
forwards published ports.

`nft.py` (real) and `fake.py` (in memory) implement `Filter` and pass the same contract tests.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from agent.network.base import (
    NO_CONTROL_PLANE,
    ControlPlane,
    DesiredEndpoint,
    DesiredOverlay,
    Drift,
    Published,
)
from agent.network.filter.table import Unit


class Filter(Protocol):
    """Async methods must not overlap. Each raises NetworkFailed when nft refuses."""

    @property
    def refused(self) -> Mapping[Unit, str]:
        """The parts left out of the rules because the kernel refused them, and why."""
        ...

    async def sync(
        self,
        overlays: Sequence[DesiredOverlay],
        endpoints: Sequence[DesiredEndpoint] = (),
        published: Sequence[Published] = (),
        *,
        control: ControlPlane = NO_CONTROL_PLANE,
    ) -> None:
        """Write the rules for exactly these; without a network there are none. UDP flows to removed
        backends are deleted.
        """
        ...

    async def update(
        self, before: Sequence[DesiredEndpoint], now: Sequence[DesiredEndpoint]
    ) -> bool:
        """Replace the endpoints `before` by `now`; False if only `sync` can."""
        ...

    async def check(self) -> tuple[Drift, ...]:
        """Whether others changed the rules; `sync` repairs them."""
        ...

    async def record_listing(self) -> None:
        """Read the table that was just written, before another table of the host is changed."""
        ...

    def dropped(self, counter: str) -> int:
        """The number of packets that a counter (SPOOFED, PLAINTEXT, CLOSED, METADATA) has seen;
        callable from any thread.
        """
        ...
