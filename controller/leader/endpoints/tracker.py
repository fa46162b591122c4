"""Tracks endpoints over one term: when nodes receive changed ones, and which stops wait for their
acknowledgements. PURE (mutable; time is an argument).

Observed and decided changes mark services; `flush` returns the changed networks, at most once per
ENDPOINT_PERIOD. `published` puts what was decided into the endpoint sets before any message of its
revision is made: an agent that acknowledges that revision or a later one has the sets without the
tasks that are to stop.

Long work is done in slices, see `controller.brain.slices`; only `observed` may be called between
them. Services marked by agents' reports take a tenth of the time at most.
"""

from collections.abc import Iterable
from itertools import chain

import msgspec

from controller.brain.slices import Slices, batches
from controller.leader.endpoints.barrier import Barrier, Finished
from controller.leader.endpoints.sets import Endpoints, overlays_of
from pyswarm_core.clock import NEVER, Instant, after
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NetworkId, ServiceId, TaskId
from pyswarm_core.kinds import SERVICE
from pyswarm_core.limits import ENDPOINT_PERIOD, ENDPOINT_SLICE, NODES_MAX, SLICE_TASKS
from pyswarm_core.objects import Task, TaskStatus
from pyswarm_core.state import State
from pyswarm_core.states import NodeState, TaskState, is_terminal

_RUNNING = TaskState.RUNNING

_Leaving = dict[tuple[NetworkId, ...], list[TaskId]]
"""Backends that are to stop, by their networks."""


class Flushed(msgspec.Struct, frozen=True):
    """The networks with changed endpoints, and the waits that ended at once."""

    networks: tuple[NetworkId, ...]
    finished: list[Finished]


class EndpointTracker:
    """The endpoints and the barrier of one term; `begin` makes them from the loaded state."""

    def __init__(self, state: State, revision: int, now: Instant) -> None:
        """`revision`: where the term begins; nothing was sent at it, or since."""
        self.endpoints = Endpoints(state)
        self.barrier = Barrier(state.nodes)
        self.due = NEVER
        """When to `flush`."""
        self._state = state
        self._began = revision
        self._revision = revision
        self._sent_at = Instant(now - ENDPOINT_PERIOD)
        self._look_at = now
        """Services marked by reports are not refreshed before that."""
        self._dirty: dict[ServiceId, None] = {}
        self._marked: dict[ServiceId, None] = {}
        self._networks: dict[NetworkId, None] = {}
        self._leaving: _Leaving = {}
        self._never_served: dict[TaskId, None] = {}
        """Tasks that began to run in this term and have not served yet."""
        self._decided: dict[NetworkId, None] = {}
        self._since = now

    def begin(self) -> Slices[None]:
        """Make all endpoints of the loaded state, before anything is sent to nodes."""
        state = self._state
        yield from self.endpoints.refresh(state.services)
        held: list[Task] = []
        for service_id in tuple(state.services):
            tasks = state.tasks_of_service(service_id)
            for slots in batches(tuple(tasks.unsettled), SLICE_TASKS):
                held += [task for slot in slots for task in tasks.slots.get(slot, ())]
                if len(held) >= SLICE_TASKS:
                    self._withhold_since_then(held, self._since)
                    held = []
                    yield
        self._withhold_since_then(held, self._since)

    def reporting(self, statuses: Iterable[TaskStatus]) -> None:
        """These reports are about to be applied. No node has a task that begins to run without
        serving as a backend.
        """
        for status in statuses:
            if status.state is _RUNNING and not status.detail.serving:
                old = self._state.tasks.get(status.task_id)
                if old is not None and old.state < _RUNNING:
                    self._never_served[old.id] = None

    def observed(self, tasks: Iterable[Task], now: Instant) -> None:
        """Agents reported these."""
        leaving: list[Task] = []
        for task in tasks:
            if task.state < _RUNNING:
                continue
            if task.detail.serving or task.state is not _RUNNING:
                self._never_served.pop(task.id, None)
            if task.service_id in self.endpoints:
                self._dirty[task.service_id] = None
            if task.desired_state > _RUNNING:
                if is_terminal(task.state):
                    self.barrier.forget(task.id)
                elif task.detail.serving:
                    leaving.append(task)
        if self._dirty:
            self._set_due(now)
        if leaving:
            self._withhold_since_then(leaving, now)

    def deciding(self, writes: Writes) -> None:
        """These writes are about to be applied."""
        self._marked.update((service.id, None) for service in writes.of(SERVICE))
        self._marked.update(dict.fromkeys(writes.removed_of(SERVICE)))
        for task in writes.tasks:
            if task.state < _RUNNING:
                continue
            if task.state is not _RUNNING:
                self._never_served.pop(task.id, None)
            if task.service_id in self.endpoints:
                self._marked[task.service_id] = None
            if task.desired_state > _RUNNING:
                old = self._state.tasks.get(task.id)
                if old is not None and old.desired_state <= _RUNNING:
                    self._leave(task, self._leaving)

    def published(self, revision: int, now: Instant) -> Slices[bool]:
        """The store has what was decided, which may be sent when this returns. Return whether the
        ingress network came or went.
        """
        if not (self._marked or self._leaving):
            return False
        if not self._decided:
            self._since = now
        mesh = self.endpoints.mesh
        marked, self._marked = self._marked, {}
        changed = yield from self.endpoints.refresh(marked)
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

    def flush(self, now: Instant) -> Slices[Flushed]:
        """Call it when it is due. Return the changed networks and the waits that ended."""
        self.due = NEVER
        self._sent_at = now
        yield from self._look(now)
        networks, self._networks = tuple(self._networks), {}
        leaving, self._leaving = self._leaving, {}
        decided, self._decided = self._decided, {}
        revision, since = self._revision, self._since
        finished: list[Finished] = []
        looked_at = 0
        for among, tasks in leaving.items():
            nodes = self.endpoints.nodes_of(among)
            finished += self.barrier.wait(tasks, nodes, revision, since)
            for network_id in among:
                decided.pop(network_id, None)
            looked_at += len(nodes) + 1
            if looked_at >= NODES_MAX:
                looked_at = 0
                yield
        if decided:
            nodes = self.endpoints.nodes_of(decided)
            finished += self.barrier.wait((), nodes, revision, since)
        if self._dirty:
            self._set_due(now)
        return Flushed(networks, finished)

    def _look(self, now: Instant) -> Slices[None]:
        """Refresh services marked by reports, oldest mark first, for about one slice. The next time
        is one period later for each slice that it took.
        """
        if now < self._look_at:
            return
        began = self.endpoints.looked_at
        while self._dirty and (looked_at := self.endpoints.looked_at - began) < ENDPOINT_SLICE:
            service_id = next(iter(self._dirty))
            del self._dirty[service_id]
            self._networks.update((yield from self.endpoints.refresh((service_id,))))
        looked_at = self.endpoints.looked_at - began
        self._look_at = after(now, ENDPOINT_PERIOD * max(1, -(-looked_at // ENDPOINT_SLICE)))

    def next_deadline(self) -> Instant:
        """When there may be something to flush, or a wait to end."""
        return min(self.due, self.barrier.next_deadline())

    def _set_due(self, now: Instant) -> None:
        """Set `due`: there are changed networks, or services to refresh."""
        due = max(now, after(self._sent_at, ENDPOINT_PERIOD))
        if not self._networks:
            due = max(due, self._look_at)
        self.due = min(self.due, due)

    def _withhold_since_then(self, tasks: Iterable[Task], now: Instant) -> None:
        """Withhold backends of an earlier term that are to stop: nodes may have them as backends,
        and have acknowledged nothing in this term.
        """
        leaving: _Leaving = {}
        for task in tasks:
            if task.state is _RUNNING and task.desired_state > _RUNNING:
                self._leave(task, leaving)
        if leaving:  # one wait: there may be as many combinations of networks as tasks
            nodes = self.endpoints.nodes_of(dict.fromkeys(chain.from_iterable(leaving)))
            self.barrier.wait(chain.from_iterable(leaving.values()), nodes, self._began, now)

    def _leave(self, task: Task, leaving: _Leaving) -> None:
        """Add the task to `leaving` if nodes may have it as a backend and its own is not down.

        A task that does not serve may have served a moment ago: its nodes may not have applied its
        absence, and what they acknowledge of an agent's report is not known.
        """
        if task.state is not _RUNNING or task.id in self._never_served or task.id in self.barrier:
            return
        node = self._state.nodes.get(task.node_id)
        networks = overlays_of(self._state, task)
        if networks and node is not None and node.status.state is not NodeState.DOWN:
            leaving.setdefault(networks, []).append(task.id)
