"""What the servicer makes of views."""

from controller.grpc import control
from pyswarm_core.clock import Instant
from pyswarm_core.views import Event


def test_an_event_is_encoded_once_however_many_follow() -> None:
    told = [Event("node", "down", "n1", "host1", at=Instant(1), revision=7) for _ in range(2)]
    first, second = map(control._event, told)
    assert first is second
    assert (first.at, first.revision, first.type, first.name) == (1, 7, "node", "host1")
