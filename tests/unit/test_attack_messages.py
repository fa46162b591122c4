"""The attack can draw every field of every request."""

import random

import pytest

from tests.attack.messages import Hostile, Method, methods


@pytest.mark.parametrize("method", list(methods()), ids=lambda method: method.path)
def test_every_request_can_be_drawn(method: Method) -> None:
    hostile = Hostile(random.Random(7), ("web",))
    drawn = [hostile.request(method.request) for _ in range(60)]
    assert len(set(drawn)) > 1 or not method.request.fields
