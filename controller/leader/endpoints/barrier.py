"""The barrier: which stops wait for which nodes' acknowledgements. PURE (mutable; time is an
argument).

A backend leaves the endpoint sets when it is to stop. Its own agent keeps it running until every
node that has it as a backend has acknowledged a revision without it, so no connection is sent to a
process that has had its stop signal. The barrier does not wait for nodes that are down or removed,
and never longer than BARRIER_MAX. It does wait for disconnected nodes: their kernels still send
connections to the backends that they have.

A wait checks one node at a time, the first that has not acknowledged. Other acknowledgements cost
one lookup in a dict, whatever the number of nodes and waits.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

from pyswarm_core.clock import NEVER, Instant, after
from pyswarm_core.ids import NodeId, TaskId
from pyswarm_core.limits import BARRIER_MAX
from pyswarm_core.objects import Node
from pyswarm_core.states import NodeState


class Outcome(StrEnum):
    """How a wait ended."""

    ACKNOWLEDGED = "acknowledged"
    NODE_DOWN = "node_down"
    """All others have acknowledged; a node was lost meanwhile."""
    TIMED_OUT = "timed_out"


class Finished(msgspec.Struct, frozen=True):
    """A wait that is over."""

    tasks: tuple[TaskId, ...]
    """Tasks that may stop now."""
    outcome: Outcome
    since: Instant


class _Wait:
    __slots__ = ("deadline", "nodes", "outcome", "position", "revision", "since", "tasks")

    def __init__(
        self, tasks: tuple[TaskId, ...], nodes: tuple[NodeId, ...], revision: int, since: Instant
    ) -> None:
        self.tasks = tasks
        self.nodes = nodes
        self.revision = revision
        self.since = since
        self.deadline = after(since, BARRIER_MAX)
        self.position = 0
        self.outcome = Outcome.ACKNOWLEDGED

    @property
    def over(self) -> bool:
        return self.position >= len(self.nodes)


class Barrier:
    """All waits of one term. `nodes` is the state's index, read only."""

    def __init__(self, nodes: Mapping[NodeId, Node]) -> None:
        self.acknowledged: dict[NodeId, int] = {}
        """The newest revision that each node's session has acknowledged."""
        self._nodes = nodes
        self._withheld: dict[TaskId, None] = {}
        self._waits: dict[_Wait, None] = {}
        self._looking_at: dict[NodeId, dict[_Wait, None]] = {}

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._withheld

    def __len__(self) -> int:
        return len(self._withheld)

    def withhold(self, tasks: Iterable[TaskId]) -> None:
        """Hold back the stop of these tasks until a wait with them is over."""
        self._withheld.update(dict.fromkeys(tasks))

    def forget(self, task_id: TaskId) -> None:
        """The task has ended by itself."""
        self._withheld.pop(task_id, None)

    def wait(
        self, tasks: Iterable[TaskId], nodes: Iterable[NodeId], revision: int, now: Instant
    ) -> list[Finished]:
        """Withhold these tasks until the nodes have acknowledged that revision, except nodes that
        are down.
        """
        awaited = [node_id for node_id in nodes if not self._is_lost(node_id)]
        wait = _Wait(tuple(tasks), tuple(awaited), revision, now)
        self.withhold(wait.tasks)
        self._waits[wait] = None
        return self._look([wait])

    def opened(self, node_id: NodeId) -> None:
        """The node's agent has a new session: what it acknowledged in another does not count."""
        self.acknowledged[node_id] = 0

    def heard(self, node_id: NodeId, revision: int) -> list[Finished]:
        """The node has acknowledged a revision."""
        if revision <= self.acknowledged.get(node_id, 0):
            return []
        self.acknowledged[node_id] = revision
        waits = self._looking_at.pop(node_id, None)
        return self._look(waits) if waits else []

    def lost(self, node_id: NodeId) -> list[Finished]:
        """The node was declared down, or removed: see `nodes`."""
        if node_id not in self._nodes:
            self.acknowledged.pop(node_id, None)
        waits = self._looking_at.pop(node_id, None)
        return self._look(waits) if waits else []

    def expire(self, now: Instant) -> list[Finished]:
        """End the waits that took long enough."""
        finished: list[Finished] = []
        for wait in [wait for wait in self._waits if wait.deadline <= now]:
            del self._looking_at[wait.nodes[wait.position]][wait]
            del self._waits[wait]
            wait.outcome = Outcome.TIMED_OUT
            finished.append(self._finish(wait))
        return finished

    def next_deadline(self) -> Instant:
        """When the next wait expires."""
        return min((wait.deadline for wait in self._waits), default=NEVER)

    def _look(self, waits: Iterable[_Wait]) -> list[Finished]:
        """Move each wait to the next node that has not acknowledged."""
        finished: list[Finished] = []
        for wait in waits:
            while not wait.over:
                node_id = wait.nodes[wait.position]
                if self.acknowledged.get(node_id, 0) < wait.revision:
                    if not self._is_lost(node_id):
                        self._looking_at.setdefault(node_id, {})[wait] = None
                        break
                    if wait.outcome is Outcome.ACKNOWLEDGED:
                        wait.outcome = Outcome.NODE_DOWN
                wait.position += 1
            else:
                del self._waits[wait]
                finished.append(self._finish(wait))
        return finished

    def _finish(self, wait: _Wait) -> Finished:
        held = tuple([task_id for task_id in wait.tasks if task_id in self._withheld])
        for task_id in held:
            del self._withheld[task_id]
        return Finished(held, wait.outcome, wait.since)

    def _is_lost(self, node_id: NodeId) -> bool:
        node = self._nodes.get(node_id)
        return node is None or node.status.state is NodeState.DOWN
