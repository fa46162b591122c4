"""A dataplane in memory, for unit tests and the simulator: the real one, composed of fake parts."""

from collections.abc import Mapping

from agent.network.base import DesiredEndpoint, EndpointKey, Published, Underlay
from agent.network.dataplane import Dataplane, Parts
from agent.network.fastpath.fake import FakeFastPath
from agent.network.filter.fake import FakeFilter
from agent.network.names import Names
from agent.network.overlay.fake import Fabric, FakeOverlay
from agent.network.pathmtu.fake import FakePathMtu
from agent.network.vips.fake import FakeVips
from pyswarm_core.ids import TaskId


class FakeDataplane(Dataplane):
    """One host's dataplane. It outlives a restarted agent: pass it to the next one."""

    def __init__(
        self, fabric: Fabric, underlay: Underlay, fleet: str = "fake", *, fast_path: bool = True
    ) -> None:
        names = Names(fleet)
        self._fabric = fabric
        self.overlay = FakeOverlay(fabric, names, underlay, fast_path=fast_path)
        self.filter = FakeFilter(names, underlay)
        self.vips = FakeVips()
        self.fast_path = FakeFastPath(names, on=fast_path)
        self.path_mtu = FakePathMtu()
        super().__init__(Parts(self.overlay, self.filter, self.vips, self.fast_path, self.path_mtu))

    @property
    def endpoints(self) -> Mapping[EndpointKey, DesiredEndpoint]:
        """The endpoints that this host's tasks may connect to, as of the last sync or update."""
        return self._endpoints

    @property
    def published(self) -> dict[TaskId, Published]:
        """The host ports forwarded to each task, as of the last sync."""
        return {task.task_id: task for task in self._published}

    def answers(self, task_id: TaskId, address: str) -> set[str]:
        """The addresses at which connections of the task to `address` may end, over all random
        choices.
        """
        backends = self.vips.chosen(task_id, address)
        targets = (address,) if backends is None else backends
        host = self.overlay.underlay.address
        return {target for target in targets if self._fabric.reaches(host, task_id, target)}
