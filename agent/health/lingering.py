"""Closes connections of checks, those of HTTP a little after their check. SHELL.

Closing a connection before the whole response has arrived resets it, which servers log as an error.
"""

import asyncio
import socket
from collections import deque
from contextlib import suppress

_LINGER_S = 0.05
"""An HTTP connection that the server has not closed is kept so long after its check."""
_LINGERING_MAX = 256
_READS_MAX, _REST_BYTES = 4, 64 * 1024


class Lingering:
    """The connections that are to be closed soon, at most _LINGERING_MAX; one timer for all."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, socket.socket]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def close(self, connection: socket.socket, *, lingers: bool) -> None:
        """Close a connection after reading what has arrived; if it lingers, once more a little
        later, unless the peer has closed it.
        """
        if _is_at_end(connection) or not lingers:
            connection.close()
            return
        loop = asyncio.get_running_loop()
        self._kept.append((loop.time() + _LINGER_S, connection))
        if len(self._kept) > _LINGERING_MAX:
            self._close_oldest()
        if self._timer is None:
            self._timer = loop.call_later(_LINGER_S, self._close_due)

    def close_all(self) -> None:
        """Close those that linger, at once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._kept:
            self._close_oldest()

    def _close_due(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._kept and self._kept[0][0] <= loop.time():
            self._close_oldest()
        if self._kept:
            self._timer = loop.call_at(self._kept[0][0], self._close_due)

    def _close_oldest(self) -> None:
        _, connection = self._kept.popleft()
        _is_at_end(connection)
        connection.close()


def _is_at_end(connection: socket.socket) -> bool:
    """Read what has arrived; return whether the peer has closed the connection."""
    with suppress(OSError):
        for _ in range(_READS_MAX):
            if not connection.recv(_REST_BYTES):
                return True
    return False
