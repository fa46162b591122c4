"""Pipes of `tar` in a thread, which ends with the connection. SHELL.

The pipes do not block, so that an event loop can use them too.
"""

import os
import select
from collections.abc import Callable

from agent.streams.direct.connection import Connection
from pyswarm_core.streams.limits import DIRECT_BYTES

_LOOK_MS = 500
"""Between two looks whether the connection was aborted."""


def send_all(connection: Connection, descriptor: int) -> int:
    """Send what the descriptor has until its end, and end the connection; the bytes sent. Raises
    OSError.
    """
    buffer, sent = memoryview(bytearray(DIRECT_BYTES)), 0
    while count := _read_into(connection, descriptor, buffer):
        connection.send(buffer[:count])
        sent += count
    connection.end()
    return sent


def receive_all(connection: Connection, take: Callable[[memoryview], None]) -> None:
    """Receive until the sender ends. Raises OSError, also what `take` raises."""
    buffer = memoryview(bytearray(DIRECT_BYTES))
    while count := connection.receive_into(buffer):
        take(buffer[:count])


def write_all(connection: Connection, descriptor: int, data: memoryview) -> None:
    """Write all of the data. Raises BrokenPipeError if nobody reads the other end any more."""
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            _wait(connection, descriptor, select.POLLOUT)


def _read_into(connection: Connection, descriptor: int, buffer: memoryview) -> int:
    while True:
        try:
            return os.readv(descriptor, [buffer])
        except BlockingIOError:
            _wait(connection, descriptor, select.POLLIN)


def _wait(connection: Connection, descriptor: int, events: int) -> None:
    poll = select.poll()
    poll.register(descriptor, events)
    while not poll.poll(_LOOK_MS):
        if connection.is_aborted:
            raise ConnectionAbortedError("the copy was ended")
