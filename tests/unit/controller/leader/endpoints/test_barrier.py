"""The barrier: whom a stop waits for, and what ends the wait."""

from collections.abc import Iterable

from controller.leader.endpoints.barrier import Barrier, Finished, Outcome
from pyswarm_core.clock import NEVER, SECOND, Instant, after
from pyswarm_core.ids import NodeId, TaskId
from pyswarm_core.limits import AGENT_GRACE, BARRIER_MAX
from pyswarm_core.objects import Node
from pyswarm_core.states import NodeState
from tests.fixtures import build
from tests.fixtures.build import NOW

T1, T2 = TaskId("t1"), TaskId("t2")
N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")


def fleet(count: int = 3) -> dict[NodeId, Node]:
    return {node.id: node for node in build.nodes(count)}


def waiting(
    nodes: dict[NodeId, Node], on: Iterable[NodeId] = (N1, N2), revision: int = 7
) -> Barrier:
    barrier = Barrier(nodes)
    assert barrier.wait((T1, T2), on, revision, NOW) == []
    return barrier


def done(outcome: Outcome = Outcome.ACKNOWLEDGED) -> list[Finished]:
    return [Finished((T1, T2), outcome, NOW)]


def test_a_stop_waits_longer_than_a_hanging_agent_may() -> None:
    assert BARRIER_MAX > AGENT_GRACE


def test_tasks_are_withheld_until_the_last_node_has_acknowledged() -> None:
    barrier = waiting(fleet())
    assert T1 in barrier
    assert barrier.heard(N2, 7) == []
    assert len(barrier) == 2
    assert barrier.heard(N1, 8) == done()
    assert (T1 in barrier, len(barrier)) == (False, 0)


def test_an_older_revision_does_not_count() -> None:
    barrier = waiting(fleet())
    barrier.heard(N1, 7)
    assert barrier.heard(N2, 6) == []
    assert barrier.heard(N2, 7) == done()


def test_what_was_acknowledged_before_counts() -> None:
    barrier = Barrier(fleet())
    barrier.heard(N1, 9)
    assert barrier.wait((T1, T2), (N1,), 7, NOW) == done()


def test_what_was_acknowledged_in_another_session_does_not() -> None:
    barrier = Barrier(fleet())
    barrier.heard(N1, 9)
    barrier.opened(N1)
    assert barrier.wait((T1, T2), (N1,), 7, NOW) == []
    assert barrier.heard(N1, 7) == done()


def test_nobody_to_wait_for_is_no_wait() -> None:
    assert Barrier(fleet()).wait((T1, T2), (), 7, NOW) == done()


def test_a_node_that_was_down_before_is_not_asked() -> None:
    nodes = fleet()
    nodes[N2] = build.node("n2", state=NodeState.DOWN)
    barrier = waiting(nodes)
    assert barrier.heard(N1, 7) == done()


def test_a_node_that_goes_down_is_waited_for_until_then() -> None:
    nodes = fleet()
    barrier = waiting(nodes)
    barrier.heard(N1, 7)
    nodes[N2] = build.node("n2", state=NodeState.DOWN)
    assert barrier.lost(N2) == done(Outcome.NODE_DOWN)


def test_a_node_that_is_removed_is_not_waited_for() -> None:
    nodes = fleet()
    barrier = waiting(nodes)
    barrier.heard(N2, 7)
    del nodes[N1]
    assert barrier.lost(N1) == done(Outcome.NODE_DOWN)
    assert N1 not in barrier.acknowledged


def test_a_node_that_nobody_has_heard_of_yet_is_waited_for() -> None:
    nodes = fleet()
    nodes[N2] = build.node("n2", state=NodeState.UNKNOWN)
    barrier = waiting(nodes)
    assert barrier.heard(N1, 7) == []


def test_nobody_is_waited_for_longer_than_the_bound() -> None:
    assert BARRIER_MAX == 30 * SECOND
    barrier = waiting(fleet())
    barrier.heard(N1, 7)
    assert barrier.next_deadline() == after(NOW, BARRIER_MAX)
    assert barrier.expire(Instant(NOW + BARRIER_MAX - 1)) == []
    assert barrier.expire(Instant(NOW + BARRIER_MAX)) == done(Outcome.TIMED_OUT)
    assert barrier.next_deadline() == NEVER
    assert barrier.heard(N2, 7) == []


def test_a_node_whose_agent_is_not_heard_is_waited_for_as_any_other() -> None:
    nodes = fleet()
    barrier = waiting(nodes, (N1,))
    nodes[N1] = build.node("n1", state=NodeState.DISCONNECTED)
    assert barrier.expire(Instant(NOW + 9 * SECOND)) == []
    assert barrier.heard(N1, 7) == done()


def test_waits_end_each_by_its_own_revision() -> None:
    barrier = Barrier(fleet())
    barrier.wait((T1,), (N1, N2), 7, NOW)
    barrier.wait((T2,), (N2,), 9, Instant(NOW + SECOND))
    assert barrier.heard(N2, 8) == []
    assert barrier.heard(N1, 8) == [Finished((T1,), Outcome.ACKNOWLEDGED, NOW)]
    assert barrier.heard(N2, 9) == [Finished((T2,), Outcome.ACKNOWLEDGED, Instant(NOW + SECOND))]


def test_a_wait_that_ends_early_does_not_hide_the_deadline_of_an_older_one() -> None:
    barrier = Barrier(fleet())
    barrier.wait((T1,), (N1,), 7, NOW)
    barrier.wait((T2,), (N2,), 7, Instant(NOW + SECOND))
    barrier.heard(N2, 7)
    assert barrier.next_deadline() == after(NOW, BARRIER_MAX)
    barrier.heard(N1, 7)
    assert barrier.next_deadline() == NEVER


def test_a_task_that_ended_by_itself_is_not_told_to_stop() -> None:
    barrier = waiting(fleet())
    barrier.forget(T1)
    barrier.heard(N1, 7)
    assert barrier.heard(N2, 7) == [Finished((T2,), Outcome.ACKNOWLEDGED, NOW)]


def test_a_task_can_be_withheld_before_its_wait_begins() -> None:
    barrier = Barrier(fleet())
    barrier.withhold([T1])
    assert T1 in barrier
    barrier.wait((T1,), (N1,), 7, NOW)
    assert barrier.heard(N1, 7) == [Finished((T1,), Outcome.ACKNOWLEDGED, NOW)]


def test_very_many_silent_nodes_are_passed_over_at_once() -> None:
    nodes = fleet(50)
    for node_id in nodes:
        nodes[node_id] = build.node(node_id, state=NodeState.DISCONNECTED)
    barrier = waiting(nodes, tuple(nodes))
    assert barrier.expire(Instant(NOW + BARRIER_MAX)) == done(Outcome.TIMED_OUT)
    assert barrier.next_deadline() == NEVER
