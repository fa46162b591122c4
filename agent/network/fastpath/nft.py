"""The real `FastPath`: a netdev table of nft. SHELL.

The bridge's rules serve a new task at once; its own rules follow once no more tasks come or go:
starting a task never waits for nft, and fifty tasks that start together cost one change. Invariant:
the rules of an address are rewritten before another task may hold it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from agent.network.base import Drift, NetworkFailed
from agent.network.fastpath.base import FastPathUse, Routed
from agent.network.fastpath.rules import addresses, fast_path_table, users
from agent.network.filter.keeper import Keeper
from agent.network.names import Names
from agent.network.overlay.plug import Plug
from pyswarm_core.aio.logs import EventLog

_log = EventLog("agent.network.fastpath")

_QUIET_S = 1.0
_PATIENCE = 5
"""The maximum number of seconds to wait for one without changes."""


class NftFastPath:
    """The netdev table of one fleet."""

    def __init__(self, names: Names, generation: Callable[[], Awaitable[int]], *, on: bool) -> None:
        """`generation` reads the number that changes with every change of any ruleset. If not `on`,
        the table of an earlier agent is removed and none is written.
        """
        self._names = names
        self._on = on
        self._keeper = Keeper(names.table, generation, family="netdev")
        self._written: frozenset[tuple[str, str]] = frozenset()
        self._networks, self._interfaces = 0, 0
        self._devices_made = -1
        self._moves = 0
        self._due = asyncio.Event()
        self._unavailable = False

    @property
    def use(self) -> FastPathUse:
        """See FastPath."""
        on = self._on and not self._unavailable
        return FastPathUse(on, self._networks, self._interfaces)

    def moved(self, plugs: Iterable[Plug]) -> None:
        """See FastPath."""
        if any(addresses(plugs)):
            self._moves += 1
            self._due.set()

    async def due(self) -> None:
        """See FastPath."""
        await self._due.wait()
        for _ in range(_PATIENCE):
            before = self._moves
            await asyncio.sleep(_QUIET_S)
            if self._moves == before:
                return

    def forwards_to(self, plugs: Iterable[Plug]) -> bool:
        """See FastPath."""
        return not self._written.isdisjoint(addresses(plugs))

    async def sync(
        self, routed: Routed, plugs: Callable[[], Sequence[Plug]], *, anew: bool = False
    ) -> None:
        """See FastPath."""
        self._due.clear()
        if anew or self._devices_made != routed.devices_made:
            self._keeper.force_rewrite()
            self._devices_made = routed.devices_made
        while True:
            there = plugs()
            table = fast_path_table(routed, self._names, there) if self._on else None
            try:
                await self._keeper.sync(table)
            except NetworkFailed as error:
                if there != plugs():
                    continue  # An interface disappeared while its chain was written.
                # A kernel without nft_fwd_netdev routes: slower, but correct.
                if not self._unavailable:
                    _log.warning("network.fast_path_unavailable", error=error)
                self._unavailable = True
                self._networks, self._interfaces = 0, 0
            else:
                self._written = frozenset(addresses(there)) if table else frozenset()
                self._unavailable = False
                self._networks, self._interfaces = users(table, self._names)
            return

    async def check(self) -> tuple[Drift, ...]:
        """See FastPath. What is about to be written anew is not judged."""
        differs = not self._due.is_set() and await self._keeper.differs()
        return (Drift(kind="rules", detail=f"netdev {self._names.table}"),) if differs else ()

    async def record_listing(self) -> None:
        """See FastPath."""
        await self._keeper.record_listing()
