"""A node moves along the table's edges, and remembers since when it is where it is."""

import pytest

from controller.brain.nodes import moved
from pyswarm_core.clock import Instant
from pyswarm_core.states import NODE_TRANSITIONS, InvalidTransition, NodeState
from tests.fixtures import build

LATER = Instant(build.NOW + 1)


@pytest.mark.parametrize(("start", "end"), NODE_TRANSITIONS)
def test_every_edge_sets_state_message_and_since(start: NodeState, end: NodeState) -> None:
    node = moved(build.node("n1", state=start), end, LATER, "why")
    assert (node.status.state, node.status.since, node.status.message) == (end, LATER, "why")
    assert node.status.addr == build.node("n1").status.addr


@pytest.mark.parametrize("state", NodeState)
def test_staying_changes_the_message_at_most(state: NodeState) -> None:
    node = build.node("n1", state=state)
    assert moved(node, state, LATER) == node
    other = moved(node, state, LATER, "why").status
    assert (other.message, other.since) == ("why", node.status.since)


def test_an_edge_that_the_table_does_not_have_is_a_bug() -> None:
    absent = [(a, b) for a in NodeState for b in NodeState if a is not b]
    absent = [edge for edge in absent if edge not in NODE_TRANSITIONS]
    assert (NodeState.DOWN, NodeState.UNKNOWN) in absent  # a new leader knows that it was down
    for start, end in absent:
        with pytest.raises(InvalidTransition):
            moved(build.node("n1", state=start), end, LATER)
