"""Credit for the bytes of one channel: of its sender, and of its receiver. PURE.

The receiver grants credit; the sender never has more bytes under way than it was granted. A
receiver therefore holds at most `size` bytes of a channel, whatever the sender does.
"""

from pyswarm_core.errors import InvalidArgument
from pyswarm_core.streams.limits import STREAM_FRAME_BYTES, STREAM_FRAME_BYTES_LEAST


def frame_bytes(budget: int, streams: int) -> int:
    """The most data in a frame of the newest of so many streams, which share a budget of memory."""
    return max(STREAM_FRAME_BYTES_LEAST, min(STREAM_FRAME_BYTES, budget // streams))


class Credit:
    """What the sender of a channel may still send."""

    def __init__(self) -> None:
        self.left = 0

    def grant(self, count: int) -> None:
        """The receiver accepts `count` more bytes."""
        self.left += count

    def take(self, count: int) -> None:
        """`count` bytes are sent; no more than `left`."""
        assert count <= self.left, f"{count} bytes, and {self.left} may be sent"
        self.left -= count


class Window:
    """What the receiver of a channel has granted and holds, at most `size` bytes together."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._granted = 0
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes that were received and not consumed."""
        return self._held

    def received(self, count: int) -> None:
        """`count` bytes arrived. Raises InvalidArgument if they were not granted."""
        if count > self._granted:
            raise InvalidArgument(
                f"the other side sent {count} bytes at once and may send {self._granted}"
            )
        self._granted -= count
        self._held += count

    def consumed(self, count: int) -> None:
        """`count` of the received bytes were processed."""
        assert count <= self._held, f"{count} bytes, and {self._held} are held"
        self._held -= count

    def due(self) -> int:
        """The credit to grant now; 0 while the sender has at least half of the window."""
        room = self._size - self._granted - self._held
        if room <= 0 or 2 * room < self._size:
            return 0
        self._granted += room
        return room
