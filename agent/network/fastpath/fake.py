"""A `FastPath` in memory, for unit tests and the simulator. Its rules come from the real plan."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from agent.network.base import Drift
from agent.network.fastpath.base import FastPathUse, Routed
from agent.network.fastpath.rules import addresses, fast_path_table, users
from agent.network.filter.table import Table
from agent.network.names import Names
from agent.network.overlay.plan import has_fast_path
from agent.network.overlay.plug import Plug


class FakeFastPath:
    """One host's rules. Tests may set `disturbed`; `sync` repairs it."""

    def __init__(self, names: Names, *, on: bool = True) -> None:
        self._names = names
        self._on = on
        self._routed: Routed | None = None
        self._plugs: Sequence[Plug] = ()
        self._written: frozenset[tuple[str, str]] = frozenset()
        self._due = asyncio.Event()
        self.disturbed = False

    @property
    def table(self) -> Table | None:
        """The table that the kernel would hold."""
        if not self._on or self._routed is None:
            return None
        return fast_path_table(self._routed, self._names, self._plugs)

    @property
    def use(self) -> FastPathUse:
        """See FastPath."""
        return FastPathUse(self._on, *users(self.table, self._names))

    def moved(self, plugs: Iterable[Plug]) -> None:
        """See FastPath."""
        if any(addresses(plugs)):
            self._due.set()

    async def due(self) -> None:
        """See FastPath."""
        await self._due.wait()

    def forwards_to(self, plugs: Iterable[Plug]) -> bool:
        """See FastPath."""
        return not self._written.isdisjoint(addresses(plugs))

    async def sync(
        self, routed: Routed, plugs: Callable[[], Sequence[Plug]], *, anew: bool = False
    ) -> None:
        """See FastPath."""
        self._due.clear()
        self._routed, self._plugs = routed, tuple(plugs())
        written = self._on and any(map(has_fast_path, routed.overlays))
        self._written = frozenset(addresses(self._plugs)) if written else frozenset()
        self.disturbed = False

    async def check(self) -> tuple[Drift, ...]:
        """See FastPath."""
        differs = self.disturbed and not self._due.is_set()
        return (Drift(kind="rules", detail="of the fast path"),) if differs else ()

    async def record_listing(self) -> None:
        """See FastPath."""
