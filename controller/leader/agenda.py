"""What the loop has to decide about, and when. PURE: the dirty names and the wakes.

Each turn decides about a part of it, bounded by the tasks it covers, so that a leader with a
million tasks to look at still answers requests. What became dirty first is decided first.
"""

import heapq
from collections.abc import Iterable, Mapping
from itertools import islice

from pyswarm_core.clock import NEVER, SECOND, Instant, after
from pyswarm_core.decision import BEGINNING, WOKEN, Cursor, Decision, Dirty, Writes
from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.kinds import NETWORK, NODE, SERVICE, VOLUME
from pyswarm_core.limits import (
    DECISION_COST,
    DECISION_FITS,
    EXPLAIN_PERIOD,
    EXPLAINED_PER_SECOND,
)
from pyswarm_core.state import State
from pyswarm_core.volumes.volume import as_placed

_TASKS_PER_SLOT = 16
"""How many tasks of a changed node cost as much as one slot that is looked at by itself."""
_SETTLED_PER_UNSETTLED = 8
"""How many settled slots cost as much as one that is looked at by itself."""


class Agenda:
    """Dirty names in order of arrival, and one wake per service and for the cluster."""

    def __init__(self) -> None:
        self.services: dict[ServiceId, bool] = {}
        """Each with whether it changed; the others are in the middle of a round over their slots.
        """
        self._resumed: dict[ServiceId, Cursor] = {}
        """Where rounds continue."""
        self.nodes: dict[NodeId, None] = {}
        self.cluster = False
        self.volumes = False
        """Whether volumes with work changed, or their time has come."""
        self._unfinished = False
        self._seen = 0
        """The version of the node table up to which ends of tasks were looked at."""
        self._explain_wake: Instant = NEVER
        self._round: dict[ServiceId, None] = {}
        """Waiting services whose messages this round has yet to update."""
        self._round_at = Instant(0)
        self._round_of = 0
        """The version of the node table at which the round began."""
        self._cluster_wake: Instant = NEVER
        self._volumes_wake: Instant = NEVER
        self._wakes: dict[ServiceId, Instant] = {}
        self._heap: list[tuple[Instant, ServiceId]] = []

    def __bool__(self) -> bool:
        changed = self.services or self.nodes or self.cluster or self.volumes
        return bool(changed or self._unfinished)

    @property
    def is_urgent(self) -> bool:
        """Whether something is dirty for another reason than reports of agents."""
        return bool(self.nodes) or self.cluster or self.volumes

    def add_services(self, services: Iterable[ServiceId]) -> None:
        """These services changed."""
        self.services.update(dict.fromkeys(services, True))

    def add_nodes(self, nodes: Iterable[NodeId]) -> None:
        """These nodes changed."""
        self.nodes.update(dict.fromkeys(nodes))

    def add_cluster(self) -> None:
        """The cluster's settings or keys changed, or have not been decided about yet."""
        self.cluster = True

    def add_writes(self, writes: Writes, state: State) -> None:
        """Add what users' writes, which are not applied yet, affect."""
        self.add_services(service.id for service in writes.of(SERVICE))
        self.add_services(task.service_id for task in writes.tasks)
        self.add_services(state.tasks[task_id].service_id for task_id in writes.removed_tasks)
        self.add_nodes(node.id for node in writes.of(NODE))
        self.add_nodes(writes.removed_of(NODE))  # their blocks, and messages of waiting tasks
        self._add_volumes(writes, state)
        if writes.cluster is not None:
            self.add_cluster()
            self.add_services(state.services)

    def _add_volumes(self, writes: Writes, state: State) -> None:
        """The volumes that the writes change, and the services that mount them."""
        known, are_other = state.of(VOLUME), bool(writes.removed_of(VOLUME))
        for volume in writes.of(VOLUME):
            self.volumes = True
            old = known.get(volume.id)
            if old is None or as_placed(old) != as_placed(volume):
                are_other = True
                self.add_services(state.copies.mounting(volume.spec.name))
        if are_other:
            self.add_services(state.unplaced)  # their tasks may wait for one of that name

    def fall_due(self, now: Instant) -> None:
        """Mark what is due as dirty."""
        if self._cluster_wake <= now:
            self._cluster_wake, self.cluster = NEVER, True
        if self._volumes_wake <= now:
            self._volumes_wake, self.volumes = NEVER, True
        while self._heap and self._heap[0][0] <= now:
            at, service_id = heapq.heappop(self._heap)
            if self._wakes.get(service_id) == at:
                del self._wakes[service_id]
                self.services[service_id] = True

    def next_wake(self) -> Instant:
        """When `fall_due` may find something; never too late."""
        heap = self._heap[0][0] if self._heap else NEVER
        return min(self._cluster_wake, self._volumes_wake, self._explain_wake, heap)

    def explain(self, state: State, now: Instant) -> None:
        """Add waiting services whose messages may be out of date, a few per second.

        A round covers all of them. The next one begins EXPLAIN_PERIOD later, if nodes or what
        their tasks take changed since.
        """
        version = state.node_table.version
        if not self._round and version != self._round_of and now >= self._round_at:
            self._round = dict.fromkeys(state.unplaced.in_order(state.unplaced))
            self._round_of, self._round_at = version, after(now, EXPLAIN_PERIOD)
            self._explain_wake = now
        if self._round and now >= self._explain_wake:
            some = list(islice(self._round, EXPLAINED_PER_SECOND))
            for service_id in some:
                del self._round[service_id]
            self.add_services(some)
            self._explain_wake = after(now, SECOND)
        if not self._round:
            stale = state.unplaced and version != self._round_of
            self._explain_wake = self._round_at if stale else NEVER

    def take(self, state: State) -> Dirty:
        """Remove and return what to decide in this turn."""
        dirty = Dirty()
        dirty.cluster, self.cluster = self.cluster, False
        dirty.volumes, self.volumes = self.volumes, False
        self._unfinished = False
        self._take_freed(dirty, state)
        room = self._take_nodes(dirty, state)
        # Repeated `next(iter(...))` would pass over all deleted entries each time.
        for service_id in tuple(islice(self.services, DECISION_COST)):
            cost = _cost(state, service_id)
            if dirty.services and room < cost:
                break  # a large one is decided alone, so that others do not wait for its round
            changed = self.services.pop(service_id)
            dirty.services.add(service_id)
            room -= cost
            if (cursor := self._resumed.pop(service_id, None)) is not None:
                dirty.resumed[service_id] = cursor
                if changed:
                    self.services[service_id] = True  # for another round
        return dirty

    def _take_nodes(self, dirty: Dirty, state: State) -> int:
        """Take at least one changed node; return the room left for services."""
        room = DECISION_COST
        of_node = 1 + len(state.global_services)
        compared = DECISION_FITS
        for node_id in tuple(islice(self.nodes, DECISION_COST)):
            if dirty.nodes and (room <= DECISION_COST // 2 or compared <= 0):
                break
            del self.nodes[node_id]
            dirty.nodes.add(node_id)
            room -= of_node + len(state.tasks_of_node(node_id)) // _TASKS_PER_SLOT
            compared -= len(state.unplaced)
        return room

    def _take_freed(self, dirty: Dirty, state: State) -> None:
        """Add nodes on which tasks ended and networks with new room, if any service waits."""
        table = state.node_table
        if not state.unplaced:
            self._seen = table.version
            return
        for network_id in reversed(state.roomier):
            if state.roomier[network_id] <= self._seen:
                break
            dirty.networks.add(network_id)
        rows = table.freed_since(self._seen).tolist()
        some = rows[: max(1, DECISION_FITS // len(state.unplaced))]
        dirty.freed.update(table.ids[row] for row in some)
        dirty.opened.update(table.ids[row] for row in some if table.opened_at[row] > self._seen)
        self._unfinished = len(some) < len(rows)
        self._seen = int(table.freed_at[some[-1]]) if self._unfinished else table.version

    def follow_up(self, dirty: Dirty, decision: Decision) -> None:
        """After a decision about `dirty`: its wakes replace earlier ones, and what was cut is
        dirty.

        The nodes are not: a dirty service is planned for all of its nodes.
        """
        for service_id in sorted(dirty.services):
            if service_id not in dirty.resumed:
                self._wakes.pop(service_id, None)
        if dirty.cluster:
            self._cluster_wake = decision.cluster_wake
        self._volumes_wake = decision.volumes_wake
        self._set_wakes(decision.wakes)
        for service_id in sorted(decision.again):
            cursor = decision.again[service_id]
            if cursor == WOKEN and service_id not in self.services:
                self._resumed.setdefault(service_id, cursor)
                self.services[service_id] = False
            elif cursor == WOKEN:
                continue  # it is to be decided anyway
            elif service_id not in dirty.services or cursor == BEGINNING:
                self.services[service_id] = True
            else:
                self._resumed[service_id] = cursor
                self.services.setdefault(service_id, False)
        # A block that moved from one node to another may let a waiting task run.
        self._unfinished |= decision.unfinished or bool(decision.writes.of(NETWORK))

    def _set_wakes(self, wakes: Mapping[ServiceId, Instant]) -> None:
        for service_id, at in wakes.items():
            known = self._wakes.get(service_id)
            if known is None or at < known:
                self._wakes[service_id] = at
                heapq.heappush(self._heap, (at, service_id))
        if len(self._heap) > 64 + 4 * len(self._wakes):
            self._heap = [(at, service_id) for service_id, at in self._wakes.items()]
            heapq.heapify(self._heap)


def _cost(state: State, service_id: ServiceId) -> int:
    """What planning the service costs, in slots."""
    tasks, service = state.tasks_of_service(service_id), state.services.get(service_id)
    if service is not None and service.removing:
        return 1 + len(tasks.slots)
    return 1 + len(tasks.unsettled) + len(tasks.slots) // _SETTLED_PER_UNSETTLED
