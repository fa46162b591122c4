"""What services are reached by, over one term: when nodes are told of changed endpoints, and which
stops wait until they know. PURE (mutable; time is an argument).

Observed and decided changes mark services; `flush` says which nodes to tell, at most once per
ENDPOINT_PERIOD. What was decided is in the endpoint sets from `published` on, before any message of
its revision is made: whoever acknowledges that revision, or a later one, has taken the sets without
those that leave.
"""

from collections.abc import Iterable

import msgspec

from controller.endpoints.barrier import Barrier, Finished
from controller.endpoints.sets import Endpoints, overlays_of
from pyswarm_core.clock import NEVER, Instant, after
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NetworkId, NodeId, ServiceId, TaskId
from pyswarm_core.limits import ENDPOINT_PERIOD
from pyswarm_core.objects import Task
from pyswarm_core.state import State
from pyswarm_core.states import NodeState, TaskState, is_terminal

_RUNNING = TaskState.RUNNING

_Leaving = dict[tuple[NetworkId, ...], list[TaskId]]
"""Backends that are to stop, by the networks they are reached on."""


class Flushed(msgspec.Struct, frozen=True):
    """Whom to tell, and what that ended at once."""

    networks: tuple[NetworkId, ...]
    finished: list[Finished]


class Reach:
    """The endpoints and the barrier of one term."""

    def __init__(self, state: State, revision: int, now: Instant) -> None:
        """`revision`: where the term begins; no node was told anything at it, or since."""
        self.endpoints = Endpoints(state)
        self.barrier = Barrier(state.nodes)
        self.due = NEVER
        """When to `flush`."""
        self._state = state
        self._began = revision
        self._revision = revision
        self._told_at = Instant(now - ENDPOINT_PERIOD)
        self._dirty: dict[ServiceId, None] = {}
        self._marked: dict[ServiceId, None] = {}
        self._networks: dict[NetworkId, None] = {}
        self._leaving: _Leaving = {}
        self._decided: dict[NetworkId, None] = {}
        self._since = now
        unsettled = (
            tasks.slots[slot]
            for service_id in state.services
            for tasks in (state.tasks_of_service(service_id),)
            for slot in tasks.unsettled
        )
        self._withhold_since_then((task for held in unsettled for task in held), now)

    def observed(self, tasks: Iterable[Task], now: Instant) -> None:
        """Agents reported these."""
        leaving: list[Task] = []
        for task in tasks:
            if task.state < _RUNNING:
                continue
            if task.service_id in self.endpoints:
                self._dirty[task.service_id] = None
            if task.desired_state > _RUNNING:
                if is_terminal(task.state):
                    self.barrier.forget(task.id)
                else:
                    leaving.append(task)
        if self._dirty:
            self._set_due(now)
        if leaving:
            self._withhold_since_then(leaving, now)

    def deciding(self, writes: Writes) -> None:
        """These writes are about to be applied."""
        self._marked.update((service.id, None) for service in writes.services)
        self._marked.update(dict.fromkeys(writes.removed_services))
        for task in writes.tasks:
            if task.state < _RUNNING:
                continue
            if task.service_id in self.endpoints:
                self._marked[task.service_id] = None
            if task.desired_state > _RUNNING:
                old = self._state.tasks.get(task.id)
                if old is not None and old.desired_state <= _RUNNING:
                    self._leave(task, self._leaving)

    def published(self, revision: int, now: Instant) -> bool:
        """The store has what was decided: from now on it is told. Whether the mesh came or went."""
        if not (self._marked or self._leaving):
            return False
        if not self._decided:
            self._since = now
        mesh = self.endpoints.mesh
        changed = self.endpoints.refresh(self._marked)
        self._marked.clear()
        self._decided.update(changed)
        for networks, tasks in self._leaving.items():
            self.barrier.withhold(tasks)
            self._decided.update(dict.fromkeys(networks))
        if self._decided:
            self.endpoints.touch()
            self._networks.update(self._decided)
            self._revision = revision
            self._set_due(now)
        return self.endpoints.mesh != mesh

    def flush(self, now: Instant) -> Flushed:
        """Call it when it is due: whom to tell of what changed."""
        self.due = NEVER
        self._told_at = now
        self._networks.update(self.endpoints.refresh(self._dirty))
        self._dirty.clear()
        networks, self._networks = tuple(self._networks), {}
        finished: list[Finished] = []
        for among, tasks in self._leaving.items():
            finished += self._wait(tasks, among, self._revision, self._since)
            for network_id in among:
                self._decided.pop(network_id, None)
        if self._decided:
            finished += self._wait((), self._decided, self._revision, self._since)
        self._leaving, self._decided = {}, {}
        return Flushed(networks, finished)

    def next_deadline(self) -> Instant:
        """When there may be something to flush or to end."""
        return min(self.due, self.barrier.next_deadline())

    def _set_due(self, now: Instant) -> None:
        if self.due == NEVER:
            self.due = max(now, after(self._told_at, ENDPOINT_PERIOD))

    def _wait(
        self,
        tasks: Iterable[TaskId],
        networks: Iterable[NetworkId],
        revision: int,
        since: Instant,
    ) -> list[Finished]:
        nodes: dict[NodeId, None] = {}
        for network_id in networks:
            nodes.update(dict.fromkeys(self.endpoints.nodes(network_id)))
        return self.barrier.wait(tasks, nodes, revision, since)

    def _withhold_since_then(self, tasks: Iterable[Task], now: Instant) -> None:
        """Backends of an earlier term that are to stop: whoever was told of them has yet to hear
        anything of this one.
        """
        leaving: _Leaving = {}
        for task in tasks:
            if task.state is _RUNNING and task.desired_state > _RUNNING:
                self._leave(task, leaving)
        for networks, task_ids in leaving.items():
            self._wait(task_ids, networks, self._began, now)

    def _leave(self, task: Task, leaving: _Leaving) -> None:
        """Note the task if it is a backend and its agent will hear of its end soon."""
        if task.state is not _RUNNING or not task.detail.serving or task.id in self.barrier:
            return
        node = self._state.nodes.get(task.node_id)
        networks = overlays_of(self._state, task)
        if networks and node is not None and node.status.state is not NodeState.DOWN:
            leaving.setdefault(networks, []).append(task.id)
