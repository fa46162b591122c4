"""The real `Filter`: one nft table of the host, and the conntrack flows that outlive its rules.
SHELL.
"""

from collections.abc import Mapping, Sequence

from agent.network.base import (
    NO_CONTROL_PLANE,
    ControlPlane,
    DesiredEndpoint,
    DesiredOverlay,
    Drift,
    Published,
    Underlay,
)
from agent.network.filter import flows
from agent.network.filter.host import host_table, optional_units, part_of
from agent.network.filter.keeper import Keeper
from agent.network.filter.table import Unit
from agent.network.names import Names
from agent.network.threads import KernelThreads
from pyswarm_core.ids import NetworkId


class NftFilter:
    """The table of one fleet."""

    def __init__(self, threads: KernelThreads, names: Names, underlay: Underlay) -> None:
        self._threads = threads
        self._names = names
        self._underlay = underlay
        self._keeper = Keeper(names.table, threads.nft_generation, optional=optional_units)
        self._overlays: Mapping[NetworkId, DesiredOverlay] = {}
        self._udp: dict[int, frozenset[str]] = {}
        """By published port of UDP, the addresses that it may be forwarded to."""

    @property
    def refused(self) -> Mapping[Unit, str]:
        """See Filter."""
        return self._keeper.refused

    async def sync(
        self,
        overlays: Sequence[DesiredOverlay],
        endpoints: Sequence[DesiredEndpoint] = (),
        published: Sequence[Published] = (),
        *,
        control: ControlPlane = NO_CONTROL_PLANE,
    ) -> None:
        """See Filter."""
        self._overlays = {overlay.network_id: overlay for overlay in overlays}
        table = host_table(
            overlays, endpoints, published, self._names, self._underlay, control=control
        )
        await self._keeper.sync(table)
        if table is not None:
            now = flows.udp_backends(self._overlays, endpoints, published)
            await self._forget(self._udp, now)
            self._udp = dict(now)

    async def update(
        self, before: Sequence[DesiredEndpoint], now: Sequence[DesiredEndpoint]
    ) -> bool:
        """See Filter."""
        if not any(endpoint.ports for endpoint in (*before, *now)):
            return True
        overlays = self._overlays
        if not await self._keeper.patch(part_of(overlays, before), part_of(overlays, now)):
            return False
        old, new = (flows.udp_backends(overlays, part, ()) for part in (before, now))
        await self._forget(old, new)
        self._udp = {port: to for port, to in self._udp.items() if port not in old} | dict(new)
        return True

    async def check(self) -> tuple[Drift, ...]:
        """See Filter."""
        differs = await self._keeper.differs()
        return (Drift(kind="rules", detail=self._names.table),) if differs else ()

    async def record_listing(self) -> None:
        """See Filter."""
        await self._keeper.record_listing()

    def dropped(self, counter: str) -> int:
        """See Filter."""
        return flows.count(self._names.table, counter)

    async def _forget(self, before: flows.Backends, now: flows.Backends) -> None:
        overlays = self._overlays.values()
        await self._threads.run(lambda: flows.forget_stale(before, now, overlays))
