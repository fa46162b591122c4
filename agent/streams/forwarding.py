"""Connections from callers to a port of a task. SHELL."""

import asyncio
import os
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from agent.health.connecting import OpenSocket, connect
from agent.network.base import NetworkFailed
from agent.streams.base import Link
from pyswarm_core.aio.streams.carrying import Carrier
from pyswarm_core.errors import Conflict, reason_of
from pyswarm_core.streams.frames import Connect, Started
from pyswarm_core.streams.limits import CONNECTIONS_PER_NODE, CONNECTIONS_PER_STREAM

_ENDED = "the task's process has ended"


class Destination:
    """The network namespace of a running process and the address that it has there. It stays the
    same if another process gets the number of one that has ended.
    """

    def __init__(self, process: int, namespace: int, address: str) -> None:
        self._process = process
        self.namespace = namespace
        self.address = address

    async def until_ended(self) -> None:
        """Raise Conflict once the process has ended."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._process, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._process)
        raise Conflict(_ENDED)


@contextmanager
def destination(process: int, pid: int, address: str) -> Iterator[Destination]:
    """The destination of connections until the block ends. `process` is a pidfd of `pid`, which is
    closed. Raises Conflict if the process has ended.
    """
    with ExitStack() as opened:
        opened.callback(os.close, process)
        try:
            namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Conflict(_ENDED) from error
        opened.callback(os.close, namespace)
        poll = select.poll()
        poll.register(process, select.POLLIN)
        if poll.poll(0):  # what was opened may be of another process
            raise Conflict(_ENDED)
        yield Destination(process, namespace, address)


class Forwards:
    """The forwarded connections of one host, at most CONNECTIONS_PER_NODE at once. `open_socket`
    takes a descriptor of a network namespace.
    """

    def __init__(self, open_socket: OpenSocket) -> None:
        self._open_socket = open_socket
        self.open = 0
        """Connections of all streams."""

    async def serve(self, to: Destination, port: int, link: Link) -> None:
        """Serve connections until the caller goes, or the task's process ends: Conflict."""
        carrier = Carrier(link.send)
        make = partial(self._open_socket, to.namespace)
        await link.send(Started())
        async with asyncio.TaskGroup() as group:
            group.create_task(to.until_ended())

            async def serve(channel: int) -> None:
                try:
                    connection: socket.socket = await connect(make, to.address, port)
                except (OSError, NetworkFailed) as error:
                    reason = reason_of(error) if isinstance(error, OSError) else str(error)
                    await carrier.refuse(channel, reason)
                    return
                await carrier.carry(channel, connection)

            while True:
                frame = await link.receive()
                if carrier.take(frame) or not isinstance(frame, Connect):
                    continue
                reason = self._full(carrier, frame.channel)
                if reason:
                    await carrier.refuse(frame.channel, reason)
                    continue
                carrier.reserve(frame.channel)
                self.open += 1
                group.create_task(serve(frame.channel)).add_done_callback(self._ended)

    def _full(self, carrier: Carrier, channel: int) -> str:
        """Why a connection is refused; empty: it is not."""
        if channel in carrier or len(carrier) >= CONNECTIONS_PER_STREAM:
            return f"{len(carrier)} connections of this stream are open, which is the limit"
        if self.open >= CONNECTIONS_PER_NODE:
            return f"{self.open} connections to tasks of this node are open, which is the limit"
        return ""

    def _ended(self, _: "asyncio.Task[None]") -> None:
        self.open -= 1
