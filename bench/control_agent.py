"""`python -m bench.control_agent`: many agents' sessions from one process. SHELL.

Each agent has its own connection and uses the real protocol, but runs no tasks. The first line of
the input has the controller's address, the nodes and the CA, which issues a certificate for each of
them in place of ten thousand joins; without a CA they call without TLS. Each further line is a task
state, in which every agent reports all its tasks. Lines of output are JSON: how many agents are
connected and what they received. The end of the input ends the process.
"""

import asyncio
import json
import os
import sys
import time
from contextlib import AsyncExitStack
from typing import NamedTuple

import grpc
import msgspec

from bench.control_rig import CLUSTER_ID, NODE_KEY, address, description, host_key
from controller.identity.ca import Subject, Unit, key_pem
from controller.identity.cluster import issuer_of
from pyswarm_core.aio.channel import CHANNEL_OPTIONS
from pyswarm_core.aio.credentials import ClientCredentials, channel
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.api.v1 import dispatcher_pb2, dispatcher_pb2_grpc, objects_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.identity.certificates import CertificateAuthority
from pyswarm_core.identity.limits import CERT_EXPIRY
from pyswarm_core.ids import ID_LENGTH
from pyswarm_core.states import TaskState

AgentMessage = dispatcher_pb2.AgentMessage
ControllerMessage = dispatcher_pb2.ControllerMessage
Call = grpc.aio.StreamStreamCall[AgentMessage, ControllerMessage]

CALLS_STARTED_AT_ONCE = 50
"""Per process, of a few: a burst of some thousand breaks gRPC's client."""
REPORT_EVERY_S = 0.2
RETRY_S = 2.0
"""On average, as real agents do."""
REPORT_AGAIN_S = 0.2
NICE = 15
"""Niceness: agents would run on other hosts, so controller and etcd have precedence."""
REPORTING_S = 4.0
"""Time over which the agents' reports are spread evenly."""
OWN_CONNECTION = (*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
HEARTBEAT = AgentMessage(heartbeat=dispatcher_pb2.Heartbeat())


class Host(NamedTuple):
    """A node that the store has."""

    node_id: str
    number: int


class Agent:
    """One node's session."""

    def __init__(self, host: Host, authority: CertificateAuthority | None) -> None:
        self.host = host
        self._credentials = certified_credentials(host, authority) if authority else None
        self.connected = False
        self.lost = 0
        """Sessions that failed."""
        self.tasks: dict[bytes, None] = {}
        self.received_at = 0.0
        """When it last received a task."""
        self._call: Call | None = None
        self._writing = asyncio.Lock()

    async def run(self, target: str, starting: asyncio.Semaphore) -> None:
        """Hold sessions, one after the other, on one connection."""
        async with self._dial(target) as connection:
            stub = dispatcher_pb2_grpc.DispatcherStub(connection)
            while True:
                try:
                    await self._converse(stub, starting)
                except* (grpc.RpcError, asyncio.InvalidStateError):  # the latter: written too late
                    self.lost += 1
                self.connected = False
                await asyncio.sleep(RETRY_S * (0.5 + self.host.number % 97 / 97))

    def _dial(self, target: str) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(target, options=OWN_CONNECTION)
        return channel(target, self._credentials, aio=True, options=OWN_CONNECTION)

    async def _converse(
        self, stub: dispatcher_pb2_grpc.DispatcherStub, starting: asyncio.Semaphore
    ) -> None:
        async with AsyncExitStack() as stack:
            async with starting:
                named = None if self._credentials else ((NODE_KEY, self.host.node_id),)
                call: Call = stub.Session(None, metadata=named)  # type: ignore[assignment,arg-type]  # stubs: generators only
                stack.callback(call.cancel)
                await call.write(AgentMessage(hello=self._hello()))
                first = await call.read()
            if not isinstance(first, ControllerMessage) or not first.HasField("settings"):
                return
            self._call, self.connected = call, True
            group = await stack.enter_async_context(asyncio.TaskGroup())
            beating = group.create_task(self._beat(call, first.settings.heartbeat_period / 1e9))
            while isinstance(message := await call.read(), ControllerMessage):
                if message.HasField("assignments"):
                    await self._take(message.assignments)
            beating.cancel()

    def _hello(self) -> dispatcher_pb2.Hello:
        number = self.host.number
        return dispatcher_pb2.Hello(
            description=to_proto(description(number), objects_pb2.NodeDescription()),
            addr=address(number),
        )

    async def _beat(self, call: Call, period_s: float) -> None:
        await asyncio.sleep(period_s * (self.host.number % 97) / 97)
        while call is self._call:
            await self._send(HEARTBEAT)
            await asyncio.sleep(period_s)

    async def _take(self, assignments: dispatcher_pb2.Assignments) -> None:
        if assignments.full:
            self.tasks.clear()
        self.tasks.update(dict.fromkeys(_split(assignments.ids)))
        for task_id in _split(assignments.removed_ids):
            self.tasks.pop(task_id, None)
        if assignments.ids:
            self.received_at = time.time()
        acknowledge = dispatcher_pb2.Acknowledge(revision=assignments.revision)
        await self._send(AgentMessage(acknowledge=acknowledge))

    async def report(self, state: TaskState) -> None:
        """Report every task in this state; in the next session, if this one has ended."""
        while True:
            statuses = dispatcher_pb2.TaskStatuses(
                ids=b"".join(self.tasks), states=bytes([state]) * len(self.tasks)
            )
            try:
                await self._send(AgentMessage(statuses=statuses))
                return
            except (grpc.RpcError, asyncio.InvalidStateError):
                await asyncio.sleep(REPORT_AGAIN_S)

    async def _send(self, message: dispatcher_pb2.AgentMessage) -> None:
        assert self._call is not None, "not connected"
        async with self._writing:
            await self._call.write(message)


def certified_credentials(host: Host, authority: CertificateAuthority) -> ClientCredentials:
    """The credentials of a node, with a certificate for its `host_key`."""
    key = host_key(host.node_id)
    subject = Subject(Unit.WORKER, host.node_id, CLUSTER_ID)
    now = SystemClock().now()
    issued = issuer_of(authority).certify(key.public_key(), subject, CERT_EXPIRY, now)
    return ClientCredentials(authority.certificate.encode(), issued.pem, key_pem(key))


def _split(ids: bytes) -> list[bytes]:
    return [ids[start : start + ID_LENGTH] for start in range(0, len(ids), ID_LENGTH)]


async def main() -> None:
    """The first line of the input: the controller's address, the nodes, the CA."""
    os.nice(NICE)
    reader = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    target, hosts, authority = msgspec.json.decode(
        await reader.readline(), type=tuple[str, list[Host], CertificateAuthority | None]
    )
    agents = [Agent(host, authority) for host in hosts]
    starting = asyncio.Semaphore(CALLS_STARTED_AT_ONCE)
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(agent.run(target, starting)) for agent in agents]
        running.append(group.create_task(_report(agents)))
        while words := (await reader.readline()).decode().split():
            state = TaskState[words[0]]
            for agent in agents:
                await agent.report(state)
                await asyncio.sleep(REPORTING_S / len(agents))
        for task in running:
            task.cancel()


async def _report(agents: list[Agent]) -> None:
    while True:
        print(
            json.dumps(
                {
                    "connected": sum(agent.connected for agent in agents),
                    "tasks": sum(len(agent.tasks) for agent in agents),
                    "lost": sum(agent.lost for agent in agents),
                    "received_at": max(agent.received_at for agent in agents),
                }
            ),
            flush=True,
        )
        await asyncio.sleep(REPORT_EVERY_S)


if __name__ == "__main__":
    asyncio.run(main())
