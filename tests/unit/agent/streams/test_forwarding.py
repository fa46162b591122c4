"""Connections of callers to a port of a task, here of this process."""

import asyncio
import socket

from agent.health.base import Target
from agent.streams.forwarding import serve_forward
from pyswarm_core.ids import TaskId
from pyswarm_core.streams.frames import Close, Connect, Data, Frame, HalfClose, Window
from pyswarm_core.streams.limits import CONNECTIONS_PER_STREAM
from tests.unit.agent.streams.test_commands import Caller


def opened(_: int) -> socket.socket:
    made = socket.socket()
    made.setblocking(False)
    return made


async def served(port: int, caller: Caller, until: Frame) -> None:
    """Forward to the port of this host until the caller got that frame."""
    async with asyncio.TaskGroup() as group:
        target = Target(TaskId("t1"), 1)
        serving = group.create_task(serve_forward(opened, target, port, caller.link))
        while until not in caller.got:
            caller.changed.clear()
            await caller.changed.wait()
        serving.cancel()


async def test_bytes_go_both_ways_and_ends_too() -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    async with server:
        caller = Caller()
        caller.say(Connect(1), Window(1, 100))
        port = server.sockets[0].getsockname()[1]
        async with asyncio.TaskGroup() as group:
            group.create_task(served(port, caller, HalfClose(1)))
            await caller.until_credit()
            caller.say(Data(1, b"hello"), HalfClose(1))
    assert caller.output() == b"HELLO"


async def test_a_port_where_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    caller, refused = Caller(), Close(1, f"port {port}: connection refused")
    caller.say(Connect(1))
    await served(port, caller, refused)


async def test_a_stream_has_so_many_connections() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        caller = Caller()
        caller.say(*map(Connect, range(CONNECTIONS_PER_STREAM + 1)))
        reason = "128 connections of this stream are open, which is the limit"
        await served(listener.getsockname()[1], caller, Close(CONNECTIONS_PER_STREAM, reason))
