"""`python -m tests.integration.controller.ends KINDS WAY SOCKET ADDRESS TOKEN COUNT`: calls.

A process of its own, so that a server's objects can be counted without a client's. Opens COUNT
calls of these KINDS, each on a connection of its own, prints a line, and ends them in WAY when it
reads one. Users call the socket, agents the address.
"""

import asyncio
import os
import signal
import sys
from itertools import cycle, islice
from typing import Any

import grpc

from pyswarm_core.aio.credentials import channel
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import control_pb2_grpc, dispatcher_pb2, dispatcher_pb2_grpc
from tests.integration.controller.fleet import OWN_CONNECTION, AgentMessage, FakeAgent

BEAT_EVERY_S = 0.3
_beating: list[asyncio.Task[None]] = []
SETTLED_S = 0.2
"""Longer than the server takes for what it is sent."""


async def _connection(kind: str, number: int, addresses: tuple[str, str], token: str) -> Any:
    """A channel for the kind of call, and the agent that has it."""
    users, address = addresses
    match kind:
        case "session" | "tunnel":
            agent = FakeAgent(f"{kind}{os.getpid()}-{number}")
            agent.addr = f"198.{os.getpid() >> 8 & 127}.{os.getpid() & 127}.{number + 1}"
            await agent.join(address, token)
            return agent.dial(address), agent
        case _:
            pass
    return channel(users, None, aio=True, options=OWN_CONNECTION), None


async def _opened(kind: str, connection: grpc.aio.Channel, agent: FakeAgent | None) -> Any:
    users: Any = control_pb2_grpc.ControlStub(connection)
    agents: Any = dispatcher_pb2_grpc.DispatcherStub(connection)
    match kind:
        case "session":
            assert agent is not None
            call = agents.Session(None)
            await call.write(AgentMessage(hello=agent.hello()))
            await call.read()
            _beating.append(asyncio.create_task(_beat(call)))
        case "watch":
            call = users.WatchService(pb.WatchServiceRequest(ref="web", follow=True))
            await call.read()
        case "events":
            call = users.Events(pb.EventsRequest(follow=True))
        case "logs":
            call = users.Logs(pb.LogsRequest(ref="web", follow=True))
        case "tunnel":
            call = agents.Tunnel(None)
        case _:
            raise AssertionError(kind)
    return call


async def _beat(call: Any) -> None:
    """A node that falls silent is called down, and its session ends."""
    while True:
        await call.write(AgentMessage(heartbeat=dispatcher_pb2.Heartbeat()))
        await asyncio.sleep(BEAT_EVERY_S)


async def _end(call: Any, way: str) -> None:
    match way:
        case "cancelled":
            call.cancel()
        case "closed":
            await call.done_writing()
        case "rejected":
            statuses = dispatcher_pb2.TaskStatuses(ids=b"x")
            await call.write(AgentMessage(statuses=statuses))
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case _:
            assert way == "ended by the server"


async def main() -> None:
    """See the module."""
    kinds, way, users, address, token, count = sys.argv[1:]
    dialled = [
        (kind, *await _connection(kind, number, (users, address), token))
        for number, kind in enumerate(islice(cycle(kinds.split(",")), int(count)))
    ]
    calls = [await _opened(*one) for one in dialled]
    await asyncio.sleep(SETTLED_S)
    sys.stdout.write("open\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    for beating in _beating:
        beating.cancel()
    await asyncio.gather(*_beating, return_exceptions=True)
    for call in calls:
        await _end(call, way)
    await asyncio.sleep(SETTLED_S)
    for _, connection, _ in dialled:
        await connection.close(None)


if __name__ == "__main__":
    asyncio.run(main())
