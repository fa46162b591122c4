"""What the parts of this package share. PURE: values only."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from pyswarm_core.streams.frames import Frame
from pyswarm_core.streams.limits import STREAM_FRAME_BYTES_LEAST


class Link(NamedTuple):
    """The caller's end of a stream. Both raise Unavailable once the caller is gone."""

    send: Callable[[Frame], Awaitable[None]]
    """Sends one frame; several may be sent at once."""
    receive: Callable[[], Awaitable[Frame]]
    """The next frame of a known kind."""
    frame_bytes: int = STREAM_FRAME_BYTES_LEAST
    """The most data in a sent frame."""
