"""`Vips` in memory, for unit tests and the simulator."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from agent.network.base import DesiredEndpoint, DesiredOverlay, Drift, EndpointKey
from agent.network.netlink import Netlink
from agent.network.vips import ruleset
from agent.network.vips.base import RefusedTask
from pyswarm_core.ids import NetworkId, TaskId


class FakeVips:
    """One host's tasks and endpoints. Tests may set `disturbed_tasks`; `sync` repairs them."""

    def __init__(self) -> None:
        self._overlays: Mapping[NetworkId, DesiredOverlay] = {}
        self._endpoints: dict[EndpointKey, DesiredEndpoint] = {}
        self._tasks: dict[TaskId, tuple[NetworkId, ...]] = {}
        self.disturbed_tasks: set[TaskId] = set()

    def set_desired(
        self, overlays: Mapping[NetworkId, DesiredOverlay], endpoints: Iterable[DesiredEndpoint]
    ) -> None:
        """See Vips."""
        self._overlays = overlays
        self._endpoints = {endpoint.key: endpoint for endpoint in endpoints}

    def update_desired(
        self,
        overlays: Mapping[NetworkId, DesiredOverlay],
        changed: Mapping[EndpointKey, DesiredEndpoint | None],
    ) -> frozenset[NetworkId]:
        """See Vips."""
        self._overlays = overlays
        for key, endpoint in changed.items():
            if endpoint is None:
                self._endpoints.pop(key, None)
            else:
                self._endpoints[key] = endpoint
        return frozenset(network_id for _, network_id in changed)

    @contextmanager
    def new(
        self, task_id: TaskId, networks: tuple[NetworkId, ...], connect: Callable[[], Netlink]
    ) -> Iterator[None]:
        """See InNamespace."""
        self._tasks[task_id] = networks
        try:
            yield
        except BaseException:
            self.forget(task_id)
            raise

    def adopt(
        self, task_id: TaskId, networks: tuple[NetworkId, ...], connect: Callable[[], Netlink]
    ) -> None:
        """See InNamespace."""
        self._tasks[task_id] = networks

    def forget(self, task_id: TaskId) -> None:
        """See InNamespace."""
        self._tasks.pop(task_id, None)
        self.disturbed_tasks.discard(task_id)

    async def sync(self, networks: frozenset[NetworkId] | None = None) -> list[RefusedTask]:
        """See Vips."""
        healed = [
            task_id for task_id in self.disturbed_tasks
            if networks is None or not networks.isdisjoint(self._tasks[task_id])
        ]  # fmt: skip
        self.disturbed_tasks.difference_update(healed)
        return []

    async def check(self) -> tuple[Drift, ...]:
        """See Vips."""
        disturbed = sorted(self.disturbed_tasks)
        return tuple(Drift(kind="rules", detail=f"task {task_id}") for task_id in disturbed)

    async def backends(self, task_id: TaskId, address: str) -> tuple[str, ...] | None:
        """See Vips."""
        return self.chosen(task_id, address)

    def chosen(self, task_id: TaskId, address: str) -> tuple[str, ...] | None:
        """The backends of the task's connections to an address; None if it is no virtual
        address.
        """
        if task_id in self.disturbed_tasks:
            return None
        for network_id in self._tasks.get(task_id, ()):
            for endpoint in self._endpoints.values():
                if endpoint.network_id == network_id and endpoint.vip == address:
                    return ruleset.vip(endpoint, self._overlays.get(network_id), None).backends
        return None
