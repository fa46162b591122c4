"""An agent is believed about the hosts that it was asked to probe, once and for a short time."""

from collections.abc import Callable

from msgspec.structs import replace

from controller.brain.liveness.calibration import PATIENCE
from controller.leader.node_watch import ANSWERS, NodeWatch
from pyswarm_core.aio.echo import Asker, Done, NoEchoes
from pyswarm_core.clock import MILLISECOND, SECOND, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NodeId
from pyswarm_core.objects import Node
from pyswarm_core.specs import ClusterSpec
from pyswarm_core.states import NodeState
from pyswarm_core.views import Event
from tests.fixtures import build
from tests.fixtures.build import NOW

STEP = 50 * MILLISECOND
SILENT, ASKED, OTHER = NodeId("n1"), NodeId("n2"), NodeId("n3")


class Fleet:
    """Three nodes whose hosts answer, until the first falls silent. The controller itself sends no
    echoes, and of the agents it asks one only.
    """

    def __init__(self, echoes: Callable[[Done], Asker] = NoEchoes) -> None:
        self._now = NOW
        self.state = build.state(nodes=build.nodes(3))
        self.probes: list[NodeId] = []
        self.watch = NodeWatch(
            self.state,
            SECOND,
            self,
            echoes=echoes,
            ask_agents=self._ask,
            changed=self._changed,
        )
        for node in self.state.nodes.values():
            self.watch.heard(node)
        self.run(lambda: len(self.probes) == 3)
        for about in (SILENT, OTHER):
            self.watch.reported(ASKED, about, answered=True)  # so echoes are known to pass
        self.probes.clear()

    def now(self) -> Instant:
        return self._now

    def is_in(self, state: NodeState) -> bool:
        """Whether the silent node is in this state."""
        return self.state.nodes[SILENT].status.state is state

    def run(self, until: Callable[[], bool], limit: int = 5 * SECOND) -> None:
        """Let time pass, in which the first node says nothing."""
        end = self._now + limit
        while not until() and self._now < end:
            self._now = Instant(self._now + STEP)
            for node_id in (ASKED, OTHER):
                self.watch.heard(self.state.nodes[node_id])
            assert {node.id for node in self.watch.judge(self._now)} <= {SILENT}

    def _ask(self, node: Node, agents: tuple[NodeId, ...], window: int) -> list[NodeId]:
        self.probes.append(node.id)
        return [ASKED]

    def _changed(self, node: Node, event: Event) -> None:
        self.state.apply(Writes(objects=(node,)))


def silent_and_probed() -> Fleet:
    fleet = Fleet()
    fleet.run(lambda: SILENT in fleet.probes)
    assert fleet.is_in(NodeState.READY)
    return fleet


def test_the_answer_of_an_agent_that_was_asked_disconnects_the_node() -> None:
    fleet = silent_and_probed()
    fleet.watch.reported(ASKED, SILENT, answered=True)
    assert fleet.is_in(NodeState.DISCONNECTED)
    assert fleet.state.nodes[SILENT].status.message == ANSWERS


def test_a_missing_answer_is_a_verdict_if_a_probe_was_requested() -> None:
    fleet = silent_and_probed()
    fleet.watch.reported(ASKED, SILENT, answered=False)
    fleet.run(lambda: fleet.is_in(NodeState.DOWN), SECOND // 2)
    assert fleet.is_in(NodeState.DOWN)


def test_an_agent_that_was_not_asked_can_keep_no_node_from_being_down() -> None:
    fleet = silent_and_probed()
    fleet.watch.reported(OTHER, SILENT, answered=True)
    assert fleet.is_in(NodeState.READY)
    fleet.run(lambda: fleet.is_in(NodeState.DOWN))
    assert fleet.is_in(NodeState.DOWN)


def test_an_agent_that_was_not_asked_brings_no_verdict() -> None:
    fleet = silent_and_probed()
    fleet.watch.reported(OTHER, SILENT, answered=False)
    fleet.run(lambda: fleet.is_in(NodeState.DOWN), SECOND // 2)
    assert fleet.is_in(NodeState.READY)  # as if nobody could have tried


def test_an_answer_counts_once_per_requested_probe() -> None:
    fleet = silent_and_probed()
    fleet.watch.reported(ASKED, SILENT, answered=False)
    fleet.watch.reported(ASKED, SILENT, answered=True)
    assert fleet.is_in(NodeState.READY)


def test_an_answer_that_comes_late_is_about_a_host_of_the_past() -> None:
    fleet = silent_and_probed()
    fleet._now = Instant(fleet._now + PATIENCE)
    fleet.watch.reported(ASKED, SILENT, answered=True)
    assert fleet.is_in(NodeState.READY)


def test_what_was_asked_is_forgotten_after_a_while() -> None:
    fleet = Fleet()
    fleet.run(lambda: False, 120 * SECOND)
    assert len(fleet.probes) > 10
    assert len(fleet.watch._asked) <= 3


class Unread:
    """Echoes that were answered; nobody has read that."""

    def __init__(self, done: Done) -> None:
        self._done = done
        self._asked: list[str] = []

    def ask(self, key: str, address: str, window: int) -> bool:
        self._asked.append(key)
        return True

    def hear(self) -> None:
        while self._asked:
            self._done(self._asked.pop(), True)

    def close(self) -> None:
        pass


def test_answers_that_wait_are_read_before_a_verdict() -> None:
    fleet = Fleet(Unread)
    fleet.run(lambda: False)
    assert fleet.is_in(NodeState.DISCONNECTED)


def test_changed_settings_apply_at_once() -> None:
    fleet = Fleet()
    spec = ClusterSpec(agent_grace=7 * SECOND)
    fleet.state.apply(Writes(cluster=replace(fleet.state.cluster, spec=spec)))
    fleet.watch.follow(SECOND)
    assert fleet.watch.liveness.grace == 7 * SECOND
    fleet.watch.follow(3 * SECOND)
    assert fleet.watch.liveness.period == 3 * SECOND
