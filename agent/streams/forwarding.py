"""Connections from callers to a port of a task. SHELL."""

import asyncio

from agent.health.base import Target
from agent.health.connecting import OpenSocket, connect
from agent.network.base import NetworkFailed
from agent.streams.base import Link
from pyswarm_core.aio.streams.carrying import Carrier
from pyswarm_core.errors import reason_of
from pyswarm_core.streams.frames import Connect, Started
from pyswarm_core.streams.limits import CONNECTIONS_PER_STREAM


async def serve_forward(open_socket: OpenSocket, target: Target, port: int, link: Link) -> None:
    """Serve connections until the caller goes."""
    carrier = Carrier(link.send)
    await link.send(Started())
    async with asyncio.TaskGroup() as group:

        async def serve(channel: int) -> None:
            try:
                connection = await connect(open_socket, target, port)
            except (OSError, NetworkFailed) as error:
                reason = reason_of(error) if isinstance(error, OSError) else str(error)
                await carrier.refuse(channel, reason)
                return
            await carrier.carry(channel, connection)

        while True:
            frame = await link.receive()
            if carrier.take(frame) or not isinstance(frame, Connect):
                continue
            if frame.channel in carrier or len(carrier) >= CONNECTIONS_PER_STREAM:
                reason = f"{len(carrier)} connections of this stream are open, which is the limit"
                await carrier.refuse(frame.channel, reason)
                continue
            carrier.reserve(frame.channel)
            group.create_task(serve(frame.channel))
