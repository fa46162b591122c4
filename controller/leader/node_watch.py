"""Turns verdicts on silent agents into node states, and sends probes. SHELL over `silence.py`."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from controller.brain.liveness.calibration import PATIENCE
from controller.brain.liveness.silence import Liveness, probe_window
from controller.brain.nodes import moved
from pyswarm_core.clock import Clock, Instant, after
from pyswarm_core.decision import EventKind
from pyswarm_core.ids import NodeId
from pyswarm_core.objects import Node
from pyswarm_core.state import State
from pyswarm_core.states import NodeState
from pyswarm_core.views import Event

if TYPE_CHECKING:
    from pyswarm_core.aio.echo import Asker, Done

ANSWERS = "heartbeat failure: its host answers probes"
HELD_BACK = "heartbeat failure: not declared down yet, because too many nodes are silent at once"

AskAgents = Callable[[Node, tuple[NodeId, ...], int], list[NodeId]]
"""Have some of the agents probe the node's host for some nanoseconds; returns which do."""
Changed = Callable[[Node, Event], None]


class NodeWatch:
    """The nodes of one term, which begins now: those that are not down are awaited.

    `changed` is called with each node that entered another state.
    """

    def __init__(
        self,
        state: State,
        period: int,
        clock: Clock,
        *,
        echoes: "Callable[[Done], Asker]",
        ask_agents: AskAgents,
        changed: Changed,
    ) -> None:
        self._state = state
        self._clock = clock
        self._ask_agents = ask_agents
        self._changed = changed
        self._echoes = echoes(self._echoed)
        self._asked: OrderedDict[tuple[NodeId, NodeId], Instant] = OrderedDict()
        """By agent and node, until when the agent's report about the node's host counts, oldest
        first. At most PROBERS for each of PROBED_AT_ONCE hosts in a window.
        """
        now = clock.now()
        grace = state.cluster.spec.agent_grace
        self.liveness = Liveness(period, grace, now, is_empty=lambda n: not state.tasks_of_node(n))
        living = (n.id for n in state.nodes.values() if n.status.state is not NodeState.DOWN)
        self.liveness.await_hello(living, now)

    def follow(self, period: int) -> None:
        """Apply the cluster's settings; `period` is the heartbeat period of as many nodes."""
        self.liveness.grace = self._state.cluster.spec.agent_grace
        if period != self.liveness.period:
            self.liveness.set_period(period, self._clock.now())

    def heard(self, node: Node) -> None:
        """A message of the node arrived: it is ready."""
        now = self._clock.now()
        self.liveness.heard(node.id, now)
        if node.status.state is not NodeState.READY:
            event = Event.of(EventKind.NODE_READY, node.id, node.description.hostname)
            self._changed(moved(node, NodeState.READY, now), event)

    def reported(self, agent: NodeId, node_id: NodeId, *, answered: bool) -> None:
        """The agent reports whether the node's host answered. A report counts once, for a probe
        that this agent was requested to send shortly before.
        """
        if self._asked.pop((agent, node_id), self._clock.now()) <= self._clock.now():
            return
        if answered:
            self._answered(node_id)
        else:
            self.liveness.tried(node_id)

    def judge(self, now: Instant) -> Iterator[Node]:
        """Send probes and apply verdicts that are due; yield the nodes that are down now."""
        self._echoes.hear()
        tick = self.liveness.tick(now)
        for probe in tick.probes:
            self._probe(probe.node_id, probe.agents)
        for node_id in tick.held:
            self._disconnect(node_id, HELD_BACK, now)
        for node_id in tick.down:
            node = self._state.nodes.get(node_id)
            if node is None or node.status.state is NodeState.DOWN:
                continue
            name, reason = node.description.hostname, "nothing was heard of it in time"
            down = moved(node, NodeState.DOWN, now, "heartbeat failure")
            self._changed(down, Event.of(EventKind.NODE_DOWN, node_id, name, reason))
            yield down

    def close(self) -> None:
        """Stop probing."""
        self._echoes.close()

    def _probe(self, node_id: NodeId, agents: tuple[NodeId, ...]) -> None:
        node = self._state.nodes.get(node_id)
        if node is None:
            return
        window = probe_window(self.liveness.period)
        if self._echoes.ask(node.id, node.status.addr, window):
            self.liveness.tried(node.id)
        # Half of the window is for the agent's report to arrive.
        asked = self._ask_agents(node, agents, window // 2)
        now = self._clock.now()
        while self._asked and next(iter(self._asked.values())) <= now:
            self._asked.popitem(last=False)
        for agent in asked:
            self._asked.pop((agent, node_id), None)
            self._asked[agent, node_id] = after(now, max(window, PATIENCE))

    def _echoed(self, key: str, answered: bool) -> None:
        if answered:
            self._answered(NodeId(key))

    def _answered(self, node_id: NodeId) -> None:
        now = self._clock.now()
        if self.liveness.answered(node_id, now):
            self._disconnect(node_id, ANSWERS, now)

    def _disconnect(self, node_id: NodeId, message: str, now: Instant) -> None:
        node = self._state.nodes.get(node_id)
        if node is None or node.status.state is NodeState.DOWN:
            return
        disconnected = moved(node, NodeState.DISCONNECTED, now, message)
        if disconnected != node:
            name = node.description.hostname
            event = Event.of(EventKind.NODE_DISCONNECTED, node_id, name, message)
            self._changed(disconnected, event)
