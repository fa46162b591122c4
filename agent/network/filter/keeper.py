"""Applies the desired version of an nft table of the host. SHELL over nft.

Invariant: the recorded content of the kernel's table is used only while the generation number shows
that nobody has changed a ruleset since; then a change costs the difference. Otherwise the table is
read, and rewritten unless its listing is unchanged.
"""

from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from agent.network import nft
from agent.network.base import NetworkFailed
from agent.network.filter.table import Table, Unit, change, removal, whole, without
from pyswarm_core.aio.logs import EventLog

_log = EventLog("agent.network.filter")

TRIES_MAX = 200
"""The maximum number of nft runs to find what it refuses: enough for ten entries among a million.
"""


class Keeper:
    """One table. Its methods must not overlap."""

    def __init__(
        self,
        name: str,
        generation: Callable[[], Awaitable[int]],
        *,
        family: str = "inet",
        optional: Callable[[Table], list[Unit]] = lambda table: [],
    ) -> None:
        """`generation` reads the number that changes with every change of any ruleset; `optional`
        returns the parts that a table may omit if nft refuses them.
        """
        self.refused: dict[Unit, str] = {}
        """The parts left out because nft refused them, and why."""
        self._optional = optional
        self._name = name
        self._family = family
        self._read_generation = generation
        self._table: Table | None = None
        self._generation = -1
        self._listing: str | None = None
        self._is_known = False
        self._retry_refused = False
        """The next `sync` retries what was refused."""

    async def sync(self, table: Table | None) -> None:
        """Make the kernel's table this one, except for what nft refuses; None: remove it."""
        if self._retry_refused:
            self.refused, self._retry_refused, self._is_known = {}, False, False
        table = table and without(table, self.refused)
        disturbed = not self._is_known or await self._disturbed()
        if disturbed or table is None or self._table is None:
            if not disturbed and table == self._table:
                return
            await self._write(table)
        elif text := change(self._name, self._table, table):
            try:
                await self._apply(text, table)
            except NetworkFailed as error:
                _log.warning("filter.rewritten", table=self._name, error=error)
                await self._write(table)

    async def patch(self, old: Table, new: Table) -> bool:
        """Replace the part `old` of the kernel's table by `new`; False if that requires a
        comparison of the whole table.
        """
        table = self._table
        if table is None or not self._is_known or self.refused or await self._disturbed():
            return False
        elements, chains = dict(table.elements), dict(table.chains)
        theirs = [label for label in new.chains if label in chains and label not in old.chains]
        if theirs or any(chains.get(label) != chain for label, chain in old.chains.items()):
            return False  # another endpoint publishes this port, too
        for label, held in new.elements.items():
            kept = elements[label].items - old.elements[label].items | held.items
            elements[label] = replace(elements[label], items=kept)
        for label in old.chains:
            del chains[label]
        try:
            if text := change(self._name, old, new):
                whole_ = replace(table, elements=elements, chains=chains | dict(new.chains))
                await self._apply(text, whole_)
        except NetworkFailed as error:
            _log.warning("filter.rewritten", table=self._name, error=error)
            return False
        return True

    def force_rewrite(self) -> None:
        """Make the next `sync` rewrite the table, even if it looks unchanged."""
        self._is_known = False

    async def record_listing(self) -> None:
        """Read the table that was just written, before the agent changes another table."""
        if self._is_known and self._listing is None:
            await self._read_listing()

    async def differs(self) -> bool:
        """Whether others changed the table since the last sync."""
        if not self._is_known:
            return False
        if self.refused:
            self._retry_refused = True  # it may be accepted now
            return True
        if self._listing is None:
            # The table has not been read since the last change, so if the generation differs,
            # whether this table was changed is unknown. Rewriting it is harmless.
            if await self._read_generation() != self._generation:
                await self._write(self._table)
            else:
                await self._read_listing()
        return await self._disturbed()

    async def _disturbed(self) -> bool:
        # Reading the generation number is a thousand times cheaper than listing the table.
        generation = await self._read_generation()
        if generation == self._generation:
            return False
        found = await nft.listing(self._name, self._family)
        if found != self._listing:
            return True
        self._generation = generation
        return False

    async def _write(self, table: Table | None) -> None:
        try:
            await self._apply(self._whole(table), table)
        except NetworkFailed as error:
            found = await self._find_refused(table) if table else {}
            if table is None or not found:
                raise
            self.refused |= found
            _log.warning("filter.refused", table=self._name, error=error, units=len(found))
            table = without(table, found)
            await self._apply(self._whole(table), table)
        await self._read_listing()

    async def _find_refused(self, table: Table) -> dict[Unit, str]:
        """The optional parts that nft refuses, found by bisection. Empty if they are not the
        cause.
        """
        optional = self._optional(table)
        bare = without(table, optional)
        if not optional or await nft.refusal(self._whole(bare)):
            return {}
        found: dict[Unit, str] = {}
        parts, tries = [optional], 0
        while parts and (tries := tries + 1) <= TRIES_MAX:
            part = parts.pop()
            tried = without(table, frozenset(optional).difference(part))
            if reason := await nft.refusal(self._whole(tried)):
                half = len(part) // 2
                if half:
                    parts += part[:half], part[half:]
                else:
                    found[part[0]] = reason
        # Parts that were not tried are left out, too: the rest of the table matters more.
        return found | {unit: "it was not tried" for part in parts for unit in part}

    def _whole(self, table: Table | None) -> str:
        return whole(self._name, table) if table else removal(self._name, self._family)

    async def _read_listing(self) -> None:
        """Record the table's listing, if nobody has changed a ruleset since it was written."""
        listing = await nft.listing(self._name, self._family) if self._table else ""
        if await self._read_generation() == self._generation:
            self._listing = listing

    async def _apply(self, text: str, table: Table | None) -> None:
        self._is_known = False
        await nft.apply(text)
        self._generation = await self._read_generation()
        self._listing = None
        self._table = table
        self._is_known = True
