"""The part of a dataplane that forwards packets between tasks of one network on two hosts past the
hooks of IP (docs/decisions/0010, 0011). PURE: values and the protocol.

`nft.py` (real) and `fake.py` (in memory) implement `FastPath` and pass the same contract tests.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from agent.network.base import DesiredOverlay, Drift
from agent.network.overlay.plug import Plug


class FastPathUse(NamedTuple):
    """The use of the fast path on this host: numbers of networks, and of tasks' interfaces with
    rules of their own. `on`: neither turned off nor refused by the kernel.
    """

    on: bool
    networks: int = 0
    interfaces: int = 0


class Routed(NamedTuple):
    """The input of the fast path: the carried networks and their paths. `devices_made` changes
    whenever a device may have been replaced.
    """

    overlays: Sequence[DesiredOverlay]
    underlay_mtu: int
    paths: Mapping[str, int]
    devices_made: int


class FastPath(Protocol):
    """`sync`, `check` and `record_listing` must not overlap."""

    @property
    def use(self) -> FastPathUse:
        """The use of the fast path as of the last sync."""
        ...

    def moved(self, plugs: Iterable[Plug]) -> None:
        """Record that a task with these interfaces came or went: `due` returns once."""
        ...

    async def due(self) -> None:
        """Return once tasks came or went and a `sync` is worthwhile."""
        ...

    def forwards_to(self, plugs: Iterable[Plug]) -> bool:
        """Whether packets to the address of one of these interfaces take the fast path already."""
        ...

    async def sync(
        self, routed: Routed, plugs: Callable[[], Sequence[Plug]], *, anew: bool = False
    ) -> None:
        """Write the rules for exactly these networks and the interfaces that exist; none if it is
        off. `anew`: rewrite the rules even if they look unchanged, because an interface was
        recreated.

        A kernel without support routes instead.
        """
        ...

    async def check(self) -> tuple[Drift, ...]:
        """Whether others changed its rules; `sync` repairs them."""
        ...

    async def record_listing(self) -> None:
        """Read the table that was just written, before another table of the host is changed."""
        ...
