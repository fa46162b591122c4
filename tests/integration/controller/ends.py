"""`python -m tests.integration.controller.ends KINDS WAY ADDRESS TOKEN COUNT`: calls.

A process of its own, so that a server's objects can be counted without a client's. Opens COUNT
calls of these KINDS, each on a connection of its own, prints a line, and ends them in WAY when it
reads one.
"""

import asyncio
import os
import signal
import sys
from itertools import cycle
from typing import Any

import grpc

from pyswarm_core.aio.channel import CHANNEL_OPTIONS
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import control_pb2_grpc, dispatcher_pb2, dispatcher_pb2_grpc
from tests.integration.controller.fleet import AgentMessage, FakeAgent

OWN_CONNECTION = (*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
BEAT_EVERY_S = 0.3
_beating: list[asyncio.Task[None]] = []
SETTLED_S = 0.2
"""Longer than the server takes for what it is sent."""


async def _opened(kind: str, number: int, channel: grpc.aio.Channel, token: str) -> Any:
    users: Any = control_pb2_grpc.ControlStub(channel)
    agents: Any = dispatcher_pb2_grpc.DispatcherStub(channel)
    match kind:
        case "session":
            agent = FakeAgent(f"{kind}{os.getpid()}-{number}")
            agent.addr = f"198.{os.getpid() >> 8 & 127}.{os.getpid() & 127}.{number + 1}"
            await agent.join(sys.argv[3], token)
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
    kinds, way, address, token, count = sys.argv[1:]
    channels = [
        grpc.aio.insecure_channel(address, options=OWN_CONNECTION) for _ in range(int(count))
    ]
    calls = [
        await _opened(kind, number, channel, token)
        for number, (kind, channel) in enumerate(zip(cycle(kinds.split(",")), channels))
    ]
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
    for channel in channels:
        await channel.close(None)


if __name__ == "__main__":
    asyncio.run(main())
