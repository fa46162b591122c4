"""A `Filter` in memory, for unit tests and the simulator. Its rules come from the real plan."""

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
from agent.network.filter.host import host_table
from agent.network.filter.table import Table, Unit
from agent.network.names import Names


class FakeFilter:
    """One host's rules. Tests may set `disturbed`; `sync` repairs it."""

    def __init__(self, names: Names, underlay: Underlay) -> None:
        self._names = names
        self._underlay = underlay
        self._overlays: tuple[DesiredOverlay, ...] = ()
        self._endpoints: dict[object, DesiredEndpoint] = {}
        self._published: tuple[Published, ...] = ()
        self._control = NO_CONTROL_PLANE
        self.disturbed = False
        self.refused: Mapping[Unit, str] = {}

    @property
    def table(self) -> Table | None:
        """The table that the kernel would hold."""
        endpoints = tuple(self._endpoints.values())
        return host_table(
            self._overlays, endpoints, self._published, self._names, self._underlay,
            control=self._control,
        )  # fmt: skip

    async def sync(
        self,
        overlays: Sequence[DesiredOverlay],
        endpoints: Sequence[DesiredEndpoint] = (),
        published: Sequence[Published] = (),
        *,
        control: ControlPlane = NO_CONTROL_PLANE,
    ) -> None:
        """See Filter."""
        self._overlays, self._published = tuple(overlays), tuple(published)
        self._control = control
        self._endpoints = {endpoint.key: endpoint for endpoint in endpoints}
        self.disturbed = False

    async def update(
        self, before: Sequence[DesiredEndpoint], now: Sequence[DesiredEndpoint]
    ) -> bool:
        """See Filter."""
        for endpoint in before:
            self._endpoints.pop(endpoint.key, None)
        self._endpoints.update((endpoint.key, endpoint) for endpoint in now)
        return not self.disturbed

    async def check(self) -> tuple[Drift, ...]:
        """See Filter."""
        return (Drift(kind="rules", detail="of the host"),) if self.disturbed else ()

    async def record_listing(self) -> None:
        """See Filter."""

    def dropped(self, counter: str) -> int:
        """See Filter. None is dropped."""
        return 0
