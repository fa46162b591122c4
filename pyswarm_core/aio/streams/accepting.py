"""Connections to a local port as channels of one byte stream: the end that opens them. SHELL."""

import asyncio
import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count

from pyswarm_core.aio.streams.carrying import Carrier
from pyswarm_core.aio.streams.duplex import Send
from pyswarm_core.streams.frames import Connect

PAUSE_S = 1.0
"""After a connection for which the process or its host has no descriptor or memory left."""
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@contextmanager
def accepting(
    listener: socket.socket, send: Send, carrier: Carrier, group: asyncio.TaskGroup
) -> Iterator[None]:
    """Have the other side open a connection for each of the listener, which does not block, until
    the end of the block.
    """
    loop = asyncio.get_running_loop()
    waiting: asyncio.TimerHandle | None = None
    open_ones: set[asyncio.Task[None]] = set()
    channels = count(1)

    def accept() -> None:
        """Not by an await, whose result a cancellation would lose."""
        nonlocal waiting
        try:
            connection, _ = listener.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:  # the connection waits, and the listener stays readable
                loop.remove_reader(listener)
                waiting = loop.call_later(PAUSE_S, loop.add_reader, listener, accept)
            return  # otherwise its client has gone
        connection.setblocking(False)
        carrying = group.create_task(_carry(send, carrier, next(channels), connection))
        # A task that is cancelled before it begins closes nothing.
        carrying.add_done_callback(partial(_close, connection))
        open_ones.add(carrying)
        carrying.add_done_callback(open_ones.discard)

    loop.add_reader(listener, accept)
    try:
        yield
    finally:
        if waiting is not None:
            waiting.cancel()
        loop.remove_reader(listener)
        for task in tuple(open_ones):
            task.cancel()


async def _carry(send: Send, carrier: Carrier, channel: int, connection: socket.socket) -> None:
    carrier.reserve(channel)
    await send(Connect(channel))
    await carrier.carry(channel, connection)


def _close(connection: socket.socket, _: "asyncio.Task[None]") -> None:
    connection.close()
