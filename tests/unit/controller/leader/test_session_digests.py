"""An agent acknowledges the digest of its endpoints: whoever has others is told everything anew."""

import pytest

from controller.brain.slices import finish
from controller.leader.assignments import Source, Templates
from controller.leader.overlays import OverlayMessages
from controller.leader.sessions import NodeSession
from pyswarm_core.api.v1.dispatcher_pb2 import Assignments
from pyswarm_core.indexes.columns import endpoint_digest
from tests.unit.controller.leader.endpoints.build import N1, WEB, backend, known, put, world


class Told:
    """A session with one node on whose network a service has an endpoint."""

    def __init__(self) -> None:
        self.state = world(backend("web.1"))
        self.endpoints = known(self.state)
        overlays = OverlayMessages(self.state, self.endpoints)
        self.source = Source(self.state, self.endpoints, overlays, Templates())
        self.session = NodeSession(N1)

    def take(self, revision: int) -> Assignments:
        """What is sent at a revision."""
        (message,) = self.session.take(self.source, revision)
        assert message is not None
        return message.assignments

    def change(self) -> None:
        put(self.state, backend("web.2", "n2"))
        finish(self.endpoints.refresh([WEB]))
        self.session.endpoints_changed(self.endpoints.sequence)


def digest(message: Assignments) -> int:
    """Of the only endpoint."""
    (made,) = message.endpoints
    return endpoint_digest(made)


@pytest.fixture
def told() -> Told:
    return Told()


def test_whoever_has_what_it_was_told_is_left_alone(told: Told) -> None:
    first = digest(told.take(3))
    assert not told.session.verify(3, first)
    told.change()
    assert not told.session.verify(4, digest(told.take(4)))
    assert list(told.session.take(told.source, 4)) == []


def test_of_two_messages_of_one_revision_either_is_acknowledged(told: Told) -> None:
    first = digest(told.take(3))
    told.change()
    second = digest(told.take(3))
    assert first != second
    assert not told.session.verify(3, first)
    assert not told.session.verify(3, second)


def test_whoever_has_others_is_told_everything_anew(told: Told) -> None:
    told.take(3)
    assert told.session.verify(3, 1)
    assert told.session.wake.is_set()
    assert told.take(3).full


def test_it_is_told_once_until_it_agrees(told: Told) -> None:
    right = digest(told.take(3))
    assert [told.session.verify(3, 1) for _ in range(2)] == [True, False]
    assert told.take(3).full
    assert not told.session.verify(3, 1)
    assert not told.session.verify(3, right)
    assert told.session.verify(3, 1)


def test_a_revision_that_nothing_was_sent_with_is_not_compared(told: Told) -> None:
    assert not told.session.verify(2, 1)
    told.take(3)
    assert not told.session.verify(2, 1)


def test_an_older_message_is_forgotten_with_a_newer_one_s_acknowledgement(told: Told) -> None:
    first = digest(told.take(3))
    told.change()
    told.take(4)
    assert told.session.verify(4, first)
