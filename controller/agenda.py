"""What the loop has to look at, and when. PURE: what is dirty, and the wakes.

A slice of it is decided per turn, bounded by the tasks it covers, so that a leader with a million
tasks to look at still serves everybody else. Who became dirty first is looked at first.
"""

import heapq
from collections.abc import Iterable, Mapping

from pyswarm_core.clock import NEVER, Instant
from pyswarm_core.decision import Decision, Dirty, Writes
from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.state import State

SLICE_TASKS = 50_000
"""Tasks of dirty services and nodes looked at in one turn."""


class Agenda:
    """Dirty names in order of arrival, and one wake per service and for the cluster."""

    def __init__(self) -> None:
        self.services: dict[ServiceId, None] = {}
        self.nodes: dict[NodeId, None] = {}
        self.cluster = False
        self._cluster_wake: Instant = NEVER
        self._wakes: dict[ServiceId, Instant] = {}
        self._heap: list[tuple[Instant, ServiceId]] = []

    def __bool__(self) -> bool:
        return bool(self.services or self.nodes or self.cluster)

    def add_services(self, services: Iterable[ServiceId]) -> None:
        """These changed."""
        self.services.update(dict.fromkeys(services))

    def add_nodes(self, nodes: Iterable[NodeId]) -> None:
        """These changed."""
        self.nodes.update(dict.fromkeys(nodes))

    def add_cluster(self) -> None:
        """Its settings or keys changed, or were never looked at."""
        self.cluster = True

    def add_writes(self, writes: Writes, state: State) -> None:
        """What users' writes, not applied yet, make worth another look."""
        self.add_services(service.id for service in writes.services)
        self.add_services(task.service_id for task in writes.tasks)
        self.add_services(state.tasks[task_id].service_id for task_id in writes.removed_tasks)
        self.add_nodes(node.id for node in writes.nodes)
        self.add_nodes(writes.removed_nodes)  # for the blocks they had, and for who waits and why
        if writes.cluster is not None:
            self.add_cluster()
            self.add_services(state.services)

    def fall_due(self, now: Instant) -> None:
        """What has its wake come is dirty."""
        if self._cluster_wake <= now:
            self._cluster_wake, self.cluster = NEVER, True
        while self._heap and self._heap[0][0] <= now:
            at, service_id = heapq.heappop(self._heap)
            if self._wakes.get(service_id) == at:
                del self._wakes[service_id]
                self.services[service_id] = None

    def next_wake(self) -> Instant:
        """When `fall_due` may have something to do; never too late."""
        return min(self._cluster_wake, self._heap[0][0] if self._heap else NEVER)

    def take(self, state: State) -> Dirty:
        """Remove and return what to decide in this turn."""
        dirty = Dirty()
        dirty.cluster, self.cluster = self.cluster, False
        room = SLICE_TASKS
        while self.services and room > 0:
            service_id = next(iter(self.services))
            del self.services[service_id]
            dirty.services.add(service_id)
            room -= 1 + len(state.tasks_of_service(service_id).slots)
        while self.nodes and room > 0:
            node_id = next(iter(self.nodes))
            del self.nodes[node_id]
            dirty.nodes.add(node_id)
            room -= 1 + len(state.tasks_of_node(node_id))
        return dirty

    def follow_up(self, dirty: Dirty, decision: Decision) -> None:
        """After a decision about `dirty`: its wakes replace earlier ones, what was cut is dirty."""
        for service_id in sorted(dirty.services):
            self._wakes.pop(service_id, None)
        if dirty.cluster:
            self._cluster_wake = decision.cluster_wake
        self._set_wakes(decision.wakes)
        self.add_services(sorted(decision.again))
        if decision.again:
            self.add_nodes(sorted(dirty.nodes))  # what they evict is derived from them anew

    def _set_wakes(self, wakes: Mapping[ServiceId, Instant]) -> None:
        for service_id, at in wakes.items():
            if self._wakes.get(service_id) != at:
                self._wakes[service_id] = at
                heapq.heappush(self._heap, (at, service_id))
        if len(self._heap) > 64 + 4 * len(self._wakes):
            self._heap = [(at, service_id) for service_id, at in self._wakes.items()]
            heapq.heapify(self._heap)
