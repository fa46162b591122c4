"""Resolvers in memory, for unit tests and the simulator."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from agent.network.base import DesiredEndpoint, DesiredOverlay, EndpointKey
from pyswarm_core.ids import NetworkId, TaskId


class FakeResolvers:
    """Records which tasks have a resolver, and what it answers from."""

    def __init__(self) -> None:
        self.open_for: dict[TaskId, tuple[tuple[NetworkId, ...], tuple[str, ...]]] = {}
        """Networks and name servers of each task."""
        self.opened = asyncio.Event()
        self.endpoints: tuple[DesiredEndpoint, ...] = ()

    def replace(
        self, overlays: Iterable[DesiredOverlay], endpoints: Iterable[DesiredEndpoint]
    ) -> None:
        """See Resolvers."""
        self.endpoints = tuple(endpoints)

    def update(self, changed: Mapping[EndpointKey, DesiredEndpoint | None]) -> None:
        """See Resolvers."""
        kept = [endpoint for endpoint in self.endpoints if endpoint.key not in changed]
        self.endpoints = (*kept, *filter(None, changed.values()))

    async def open(
        self, task_id: TaskId, networks: Sequence[NetworkId], servers: Sequence[str]
    ) -> None:
        """See Resolvers."""
        self.open_for[task_id] = (tuple(networks), tuple(servers))
        self.opened.set()

    async def close(self, task_id: TaskId) -> None:
        """See Resolvers."""
        self.open_for.pop(task_id, None)
