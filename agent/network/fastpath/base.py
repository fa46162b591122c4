"""The part of a dataplane that takes packets between tasks of one network on two hosts past the
hooks of IP (docs/decisions/0010, 0011). PURE: values and the protocol.

`nft.py` (real) and `fake.py` (in memory) implement `FastPath` and pass the same contract tests.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from agent.network.base import DesiredOverlay, Drift
from agent.network.overlay.plug import Plug


class FastPathUse(NamedTuple):
    """What uses the fast path on this host: so many networks, and interfaces of tasks with rules of
    their own. `on`: neither turned off nor refused by the kernel.
    """

    on: bool
    networks: int = 0
    interfaces: int = 0


class Routed(NamedTuple):
    """What the fast path is made from: the carried networks as they are routed. `devices_made`
    differs whenever a device may be another than before.
    """

    overlays: Sequence[DesiredOverlay]
    underlay_mtu: int
    paths: Mapping[str, int]
    devices_made: int


class FastPath(Protocol):
    """`sync`, `differs` and `record_listing` must not overlap."""

    @property
    def use(self) -> FastPathUse:
        """What uses it, as of the last sync."""
        ...

    def moved(self, plugs: Iterable[Plug]) -> None:
        """A task with these interfaces came or went: `due` returns once."""
        ...

    async def due(self) -> None:
        """Return once tasks came or went and a `sync` is worth it."""
        ...

    def forwards_to(self, plugs: Iterable[Plug]) -> bool:
        """Whether packets to the address of one of these interfaces take the fast path already."""
        ...

    async def sync(
        self, routed: Routed, plugs: Callable[[], Sequence[Plug]], *, anew: bool = False
    ) -> None:
        """Have it for exactly these networks and the interfaces that are there; none if it is off.
        `anew`: write the rules whatever they seem to be, since an interface was made anew.

        A kernel without it routes instead.
        """
        ...

    async def check(self) -> tuple[Drift, ...]:
        """Whether somebody changed its rules; `sync` heals them."""
        ...

    async def record_listing(self) -> None:
        """Read what was just written, before another table of the host is changed."""
        ...
