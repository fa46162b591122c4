"""Keeps the short ways of a host's tasks as these come and go. SHELL over nft.

A task takes its network's way at once and gets its own a while later, when the host has had peace:
starting a task never waits for nft, and fifty that start together cost one change. Invariant: what
was written about an address is written anew before another task may have it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from agent.network.base import NetworkFailed
from agent.network.filter.keeper import Keeper
from agent.network.filter.table import Table
from agent.network.plug import Plug
from pyswarm_core.aio.logs import EventLog

_log = EventLog("agent.network.bypass")

_PEACE_S = 1.0
_UNREST = 5
"""So many times peace is waited for, and no more."""


class Bypass:
    """The netdev table. `sync` and `differs` must not overlap."""

    def __init__(self, name: str, generation: Callable[[], Awaitable[int]]) -> None:
        self._keeper = Keeper(name, generation, family="netdev")
        self._written: frozenset[tuple[str, str]] = frozenset()
        self._moves = 0
        self._due = asyncio.Event()
        self._goes_long = False

    def moved(self, wiring: Iterable[Plug]) -> None:
        """A task came or went."""
        if any(_places(wiring)):
            self._moves += 1
            self._due.set()

    async def peace(self) -> None:
        """Return once there is something to write, and a good moment to do it."""
        await self._due.wait()
        for _ in range(_UNREST):
            before = self._moves
            await asyncio.sleep(_PEACE_S)
            if self._moves == before:
                return

    def knows(self, wiring: Iterable[Plug]) -> bool:
        """Whether what is written leads to one of these addresses already."""
        return not self._written.isdisjoint(_places(wiring))

    def distrust(self) -> None:
        """Have the next `sync` write the table: devices are others than it was written for."""
        self._keeper.distrust()

    async def sync(
        self, plugs: Callable[[], Sequence[Plug]], table: Callable[[Sequence[Plug]], Table | None]
    ) -> None:
        """Make the table what it should be for the plugs that are there."""
        self._due.clear()
        while True:
            there = plugs()
            try:
                await self._keeper.sync(table(there))
            except NetworkFailed as error:
                if there != plugs():
                    continue  # One went while its chain was made.
                # A kernel without it (nft_fwd_netdev) routes: slower, and no less right.
                if not self._goes_long:
                    _log.warning("network.no_shortcut", error=error)
                self._goes_long = True
            else:
                self._written = frozenset(_places(there))
                self._goes_long = False
            return

    async def differs(self) -> bool:
        """Whether somebody changed the table; what is about to be written anew is not judged."""
        return not self._due.is_set() and await self._keeper.differs()

    async def remember(self) -> None:
        """Read what was just written, before somebody changes another table."""
        await self._keeper.remember()


def _places(plugs: Iterable[Plug]) -> Iterable[tuple[str, str]]:
    """The addresses that short ways lead to; those of two networks may be the same."""
    return ((plug.bridge, task.address) for plug in plugs for task in plug.neighbours)
