"""Keeps the host's nft table as wanted. SHELL over nft.

Invariant: what is believed of the kernel's table is believed only while the ruleset's generation
number says that nobody has touched anything since; then a change costs what differs. Else the table
is read, and written anew unless it is word for word what it was.
"""

from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from agent.network import nft
from agent.network.base import NetworkFailed
from agent.network.filter.table import Table, Unit, change, removal, whole, without
from pyswarm_core.aio.logs import EventLog

_log = EventLog("agent.network.filter")

TRIES_MAX = 200
"""Runs of nft to find what it refuses: ten entries among a million."""


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
        """`generation` asks for the number that changes with every change of any ruleset;
        `optional` are what a table may do without if nft refuses that.
        """
        self.refused: dict[Unit, str] = {}
        """What is left out since nft refused it, and why."""
        self._optional = optional
        self._name = name
        self._family = family
        self._read_generation = generation
        self._table: Table | None = None
        self._generation = -1
        self._listing: str | None = None
        self._is_known = False
        self._retry_refused = False
        """Have the next `sync` try what was refused."""

    async def sync(self, table: Table | None) -> None:
        """Make the kernel's table this one, but for what nft refuses; None: there shall be none."""
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
        """Make of the part `old` of the kernel's table the part `new`; False if that cannot be
        done without looking at the whole.
        """
        table = self._table
        if table is None or not self._is_known or self.refused or await self._disturbed():
            return False
        elements, chains = dict(table.elements), dict(table.chains)
        theirs = [label for label in new.chains if label in chains and label not in old.chains]
        if theirs or any(chains.get(label) != chain for label, chain in old.chains.items()):
            return False  # another endpoint has this port, too
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
        """Have the next `sync` write the table, whatever it seems to be."""
        self._is_known = False

    async def record_listing(self) -> None:
        """Read what was just written, before we change another table ourselves."""
        if self._is_known and self._listing is None:
            await self._read_listing()

    async def differs(self) -> bool:
        """Whether somebody changed the table since it was last synced."""
        if not self._is_known:
            return False
        if self.refused:
            self._retry_refused = True  # perhaps it is no longer refused
            return True
        if self._listing is None:
            # Since the last change nobody looked: if somebody was at work meanwhile, whether on our
            # table is not to be told. Writing it anew disturbs nobody.
            if await self._read_generation() != self._generation:
                await self._write(self._table)
            else:
                await self._read_listing()
        return await self._disturbed()

    async def _disturbed(self) -> bool:
        # Asking whether anyone changed any ruleset is a thousand times cheaper than reading ours.
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
        """The parts that a table can do without and nft refuses, by halving. None if that is not
        what is wrong.
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
        # Whatever was not looked at is left out, too: the rest of the table matters more.
        return found | {unit: "it was not tried" for part in parts for unit in part}

    def _whole(self, table: Table | None) -> str:
        return whole(self._name, table) if table else removal(self._name, self._family)

    async def _read_listing(self) -> None:
        """Remember what the table looks like; only worth knowing if nobody was faster."""
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
