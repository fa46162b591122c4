"""Streams that go on under the next leader: one retry for all that follow something. SHELL."""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from cli.errors import NoAnswer, Unreachable
from pyswarm_core.errors import Exhausted, Unavailable

if TYPE_CHECKING:
    from cli.client import Client

T = TypeVar("T")
RECONNECT_S = 60.0
"""Time to reach a leader again before the stream ends."""
PAUSE_S = 0.5
_CONNECTED_S = 1.0
"""A stream without items that lasted this long was connected."""


def resumed(client: "Client", stream: Callable[[], Iterator[T]]) -> Iterator[T]:
    """The items of `stream`, which is opened again when its controller dies or does not lead any
    more.

    Raises Unavailable without a leader for RECONNECT_S, and at once if there never was a controller
    or it refuses further streams.
    """
    was_connected, deadline = client.has_answer, time.monotonic() + RECONNECT_S
    while True:
        began = time.monotonic()
        try:
            for item in stream():
                was_connected, deadline = True, time.monotonic() + RECONNECT_S
                yield item
            return
        except Unavailable as error:
            now = time.monotonic()
            if now - began > _CONNECTED_S:
                was_connected, deadline = True, now + RECONNECT_S
            is_final = isinstance(error, NoAnswer | Exhausted)
            if is_final or now > deadline or (isinstance(error, Unreachable) and not was_connected):
                raise
        time.sleep(PAUSE_S)
