"""Connections of callers to a port of a task, here of this process."""

import asyncio
import os
import socket
import subprocess
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest

from agent.streams.forwarding import Destination, Forwards, destination
from pyswarm_core.errors import Conflict
from pyswarm_core.streams.frames import Close, Connect, Data, Frame, HalfClose, Window
from pyswarm_core.streams.limits import CONNECTIONS_PER_NODE, CONNECTIONS_PER_STREAM
from tests.unit.agent.streams.test_commands import Caller


def opened(_: int) -> socket.socket:
    made = socket.socket()
    made.setblocking(False)
    return made


def process_of(*words: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(words)


def here() -> AbstractContextManager[Destination]:
    """This process as the task."""
    return destination(os.pidfd_open(os.getpid()), os.getpid(), "")


async def served(port: int, caller: Caller, until: Frame, forwards: Forwards | None = None) -> None:
    """Forward to the port of this host until the caller got that frame."""
    forwards = forwards or Forwards(opened)
    with here() as to:
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(forwards.serve(to, port, caller.link))
            await got(caller, until)
            serving.cancel()


async def got(caller: Caller, until: Frame) -> None:
    """Return once the caller got that frame."""
    while until not in caller.got:
        caller.changed.clear()
        await caller.changed.wait()


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


async def test_a_node_has_so_many_connections() -> None:
    forwards = Forwards(opened)
    forwards.open = CONNECTIONS_PER_NODE - 1
    with socket.create_server(("127.0.0.1", 0)) as listener:
        caller = Caller()
        caller.say(Connect(1), Connect(2))
        reason = "1024 connections to tasks of this node are open, which is the limit"
        await served(listener.getsockname()[1], caller, Close(2, reason), forwards)
    assert forwards.open == CONNECTIONS_PER_NODE - 1


async def test_a_forward_ends_with_the_tasks_process() -> None:
    forwards, caller = Forwards(opened), Caller()
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as listener,
        process_of("sleep", "1000") as process,
        destination(os.pidfd_open(process.pid), process.pid, "") as to,
    ):
        caller.say(Connect(1))
        port = listener.getsockname()[1]
        serving = asyncio.create_task(forwards.serve(to, port, caller.link))
        await got(caller, Window(1, 256 * 1024))
        process.kill()
        with pytest.raises(ExceptionGroup) as ended:
            await serving
    assert ended.group_contains(Conflict, match="the task's process has ended")
    assert forwards.open == 0


def test_a_process_that_ended_before_is_no_destination() -> None:
    with process_of("true") as process:
        descriptor = os.pidfd_open(process.pid)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        # As if the number was that of another process by now.
        with pytest.raises(Conflict), destination(descriptor, os.getpid(), ""):
            pass


async def test_connections_are_made_in_the_namespace_that_was_held() -> None:
    made: list[os.stat_result] = []

    def open_socket(namespace: int) -> socket.socket:
        made.append(os.fstat(namespace))
        return opened(namespace)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        caller = Caller()
        caller.say(Connect(1))
        until = Window(1, 256 * 1024)
        await served(listener.getsockname()[1], caller, until, Forwards(open_socket))
    here = Path("/proc/self/ns/net").stat()
    assert [(one.st_dev, one.st_ino) for one in made] == [(here.st_dev, here.st_ino)]
