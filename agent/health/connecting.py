"""Connections to ports of a task, from within its network namespace. SHELL.

A connection costs no thread and no process: its socket is made in the namespace, in microseconds,
and belongs to the event loop from then on.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress

_LOOPBACK = "127.0.0.1"

OpenSocket = Callable[[int], socket.socket]
"""A TCP socket, not blocking, in the network namespace of a process or of a descriptor. Raises
NetworkFailed or OSError."""


async def connect(make: Callable[[], socket.socket], own: str, port: int) -> socket.socket:
    """A connection to the port on the loopback address, or else on the task's own one, if any, with
    a socket from the task's network namespace. Raises ConnectionRefusedError, other OSErrors, and
    NetworkFailed.
    """
    addresses = [_LOOPBACK, own] if own else [_LOOPBACK]
    for address in addresses:
        connection = make()
        try:
            await _establish(connection, (address, port))
            if connection.getsockname() == (address, port):
                # Nothing listens: the kernel chose the port as the connection's own one.
                raise ConnectionRefusedError
        except ConnectionRefusedError:
            connection.close()
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise ConnectionRefusedError(f"port {port}: connection refused")


async def _establish(connection: socket.socket, address: tuple[str, int]) -> None:
    """Connect. Within a host the kernel has done so when the call returns, and says that it is
    still connecting: the event loop need not wait.
    """
    with suppress(BlockingIOError):
        connection.connect(address)
        return
    if error := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(error, os.strerror(error))
    try:
        connection.getpeername()
    except OSError:
        await asyncio.get_running_loop().sock_connect(connection, address)
