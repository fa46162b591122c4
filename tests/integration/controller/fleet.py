"""A whole controller in this process over any store, and agents that speak its protocol.

Users call its Unix socket, agents its port, over TLS with the certificates that they got by a join.
Agents here run nothing: they take every assigned task through its states at once and report it.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from zlib import crc32

import grpc
from msgspec.structs import replace

from controller.app import Controller
from controller.config import ClusterOptions, Config
from controller.identity import ca
from controller.store.base import Store
from pyswarm_core.aio.channel import CHANNEL_OPTIONS
from pyswarm_core.aio.credentials import ClientCredentials, channel, guest
from pyswarm_core.aio.echo import NoEchoes
from pyswarm_core.aio.handshake import fetch_chain
from pyswarm_core.aio.streams.framed import send
from pyswarm_core.api.v1 import (
    control_pb2,
    control_pb2_grpc,
    dispatcher_pb2,
    dispatcher_pb2_grpc,
    objects_pb2,
    specs_pb2,
)
from pyswarm_core.clock import MILLISECOND, SECOND
from pyswarm_core.identity.tokens import parse_join_token
from pyswarm_core.ids import TaskId
from pyswarm_core.indexes.columns import pack_statuses, unpack_ids
from pyswarm_core.limits import PROTOCOL
from pyswarm_core.objects import NO_DETAIL, TaskStatus
from pyswarm_core.states import TaskState
from tests.fixtures.ports import free_port

HEARTBEAT = 5 * SECOND
"""So long that no node is down because a busy machine delays heartbeats, which are sent more often.
"""
HASTY = 100 * MILLISECOND
"""For tests that wait until a silent node is down."""
BEAT_EVERY_S = 0.1
WAIT_S = 120.0 * float(os.environ.get("PYSWARM_TIMEOUT_FACTOR", "1"))

AgentMessage = dispatcher_pb2.AgentMessage
ControllerMessage = dispatcher_pb2.ControllerMessage
OWN_CONNECTION = (*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
HELLO = AgentMessage(hello=dispatcher_pb2.Hello()).SerializeToString()
"""The first message of a session, of an agent that says nothing about itself."""
Call = grpc.aio.StreamStreamCall[AgentMessage, ControllerMessage]


def config(folder: Path, name: str = "one", heartbeat: int = HEARTBEAT) -> Config:
    """A controller on a socket in `folder` for users, and on a free port for agents."""
    folder.mkdir(exist_ok=True)
    port = f"127.0.0.1:{free_port()}"
    return Config(
        state_dir=folder,
        name=name,
        listen=(f"unix:{folder}/{name}.sock", port),
        advertise_addr=port,
        metrics_addr="",
        cluster=ClusterOptions(heartbeat_period=heartbeat),
    )


def second(first: Config, folder: Path) -> Config:
    """Another controller of the same fleet: it has the first one's encryption key."""
    return replace(config(folder, "two"), encryption_key=first.key_file)


@asynccontextmanager
async def serving(settings: Config, store: Store) -> AsyncIterator[Controller]:
    """A controller until the block is left, which it leaves as SIGTERM would make it."""
    controller = Controller(settings, store, NoEchoes)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(controller.serve())
        try:
            yield controller
        finally:
            task.cancel()


async def until(condition: Callable[[], object], what: str) -> None:
    """Return when the condition holds; fail after WAIT_S."""
    try:
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110  # the state has no waiting room for tests
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"never came true: {what}") from None


async def leading(controller: Controller) -> None:
    """Return when this controller leads."""
    await until(lambda: controller.leading, f"{controller.controller} leads")


@asynccontextmanager
async def user(settings: Config) -> AsyncIterator["control_pb2_grpc.ControlAsyncStub"]:
    """A user's connection to the API."""
    async with channel(settings.listen[0], None, aio=True) as connection:
        yield control_pb2_grpc.ControlStub(connection)


async def stranger(address: str, token: str) -> ClientCredentials:
    """The credentials of a host that has nothing but a join token."""
    digest = parse_join_token(token).digest
    return guest(await asyncio.to_thread(fetch_chain, address, digest))


def web(replicas: int, name: str = "web") -> control_pb2.CreateServiceRequest:
    """A request for a service that needs nothing."""
    return control_pb2.CreateServiceRequest(
        spec=specs_pb2.ServiceSpec(
            name=name,
            task_template=specs_pb2.TaskSpec(
                container_spec=specs_pb2.ContainerSpec(image="busybox", stop_grace_period=10**9),
                restart_policy=specs_pb2.RestartPolicy(condition="any", delay=0),
            ),
            mode=specs_pb2.ServiceMode(replicated=specs_pb2.ReplicatedMode(replicas=replicas)),
        )
    )


class FakeAgent:
    """One agent: joins, keeps sessions, and claims to run what it is told."""

    def __init__(self, hostname: str) -> None:
        self.hostname = hostname
        self.addr = f"192.0.2.{1 + crc32(hostname.encode()) % 250}"
        self.node_id = ""
        self.credentials: ClientCredentials | None = None
        self.tasks: dict[TaskId, TaskState] = {}
        self.revision = 0
        self.full_sets = 0
        self.messages: list[dispatcher_pb2.ControllerMessage] = []
        self._turn = asyncio.Lock()
        self.is_mute = False
        """Keeps the stream, says nothing."""
        self.worn_key = 0
        self.addrs6: tuple[str, ...] = (f"2001:DB8:0::{crc32(hostname.encode()) & 0xFFFF:x}",)
        self.beats = 0
        self.clock_ahead: int | None = None
        """By how many nanoseconds its clock is ahead; None: it sends no time."""

    @property
    def description(self) -> objects_pb2.NodeDescription:
        return objects_pb2.NodeDescription(
            hostname=self.hostname,
            platform=objects_pb2.Platform(architecture="amd64", os="linux"),
            resources=objects_pb2.NodeResources(nano_cpus=4 * 10**9, memory_bytes=2**33),
            protocol=PROTOCOL,
        )

    @property
    def running(self) -> list[TaskId]:
        return [i for i, state in self.tasks.items() if state is TaskState.RUNNING]

    async def join(self, address: str, token: str) -> None:
        key = ca.new_key()
        request = dispatcher_pb2.JoinRequest(
            token=token,
            description=self.description,
            addr=self.addr,
            availability="active",
            csr=ca.csr_pem(key),
        )
        async with channel(address, await stranger(address, token), aio=True) as connection:
            stub = dispatcher_pb2_grpc.DispatcherStub(connection)
            reply = await stub.Join(request, timeout=WAIT_S)
        self.node_id = reply.node_id
        self.take(reply.certificate, ca.key_pem(key))

    def take(self, certificate: dispatcher_pb2.Certificate, key: bytes) -> None:
        """Use this certificate for its key from now on."""
        self.credentials = ClientCredentials(certificate.roots, certificate.chain, key)

    def dial(self, address: str) -> grpc.aio.Channel:
        """A channel of its own to a controller."""
        return channel(address, self.credentials, aio=True, options=OWN_CONNECTION)

    async def run(self, address: str) -> None:
        """Sessions for ever, as an agent has them."""
        while True:
            try:
                await self.converse(address)
            except grpc.RpcError:
                await asyncio.sleep(0.02)

    async def converse(self, address: str) -> None:
        """One session, until the controller ends it. Raises the RpcError it ends with."""
        async with self.dial(address) as connection:
            call = dispatcher_pb2_grpc.DispatcherStub(connection).Session(None)
            try:
                await self._say(call, AgentMessage(hello=self.hello()))
                beating = asyncio.create_task(self._beat(call))
                try:
                    while isinstance(message := await call.read(), ControllerMessage):
                        self.messages.append(message)
                        if message.WhichOneof("kind") == "assignments":
                            await self._obey(call, message.assignments)
                finally:
                    beating.cancel()
            finally:
                call.cancel()

    async def _say(self, call: Call, message: AgentMessage) -> None:
        """Send it, unless the session has ended: `converse` reads how."""
        with suppress(asyncio.InvalidStateError):
            async with self._turn:
                await send(call, message.SerializeToString())

    def hello(self) -> dispatcher_pb2.Hello:
        return dispatcher_pb2.Hello(
            description=self.description,
            addr=self.addr,
            addrs6=self.addrs6,
            statuses=self._report(self.tasks),
        )

    async def _beat(self, call: Call) -> None:
        while True:
            await asyncio.sleep(BEAT_EVERY_S)
            if not self.is_mute:
                ahead = self.clock_ahead
                clock = 0 if ahead is None else time.time_ns() + ahead
                beat = dispatcher_pb2.Heartbeat(worn_key=self.worn_key, clock=clock)
                await self._say(call, AgentMessage(heartbeat=beat))
                self.beats += 1

    async def _obey(self, call: Call, message: dispatcher_pb2.Assignments) -> None:
        ids = unpack_ids(message.ids)
        self.revision = message.revision
        self.full_sets += message.full
        if message.full:
            self.tasks = {i: s for i, s in self.tasks.items() if i in set(ids)}
        for removed in unpack_ids(message.removed_ids):
            self.tasks.pop(removed, None)
        changed = []
        for task_id, desired in zip(ids, message.desired_states, strict=True):
            old = self.tasks.get(task_id, TaskState.ASSIGNED)
            new = _next(old, TaskState(desired))
            if new is not old:
                changed.append(task_id)
            self.tasks[task_id] = new
        if self.is_mute:
            return
        if changed:
            await self._say(call, AgentMessage(statuses=self._report(changed)))
        acknowledge = dispatcher_pb2.Acknowledge(revision=message.revision)
        await self._say(call, AgentMessage(acknowledge=acknowledge))

    def _report(self, ids: "dict[TaskId, TaskState] | list[TaskId]") -> dispatcher_pb2.TaskStatuses:
        return pack_statuses([TaskStatus(i, self.tasks[i], NO_DETAIL) for i in ids])


def _next(state: TaskState, desired: TaskState) -> TaskState:
    if state > TaskState.RUNNING:
        return state
    if desired >= TaskState.SHUTDOWN:
        return TaskState.SHUTDOWN
    return desired


@asynccontextmanager
async def agents_of(address: str, token: str, count: int) -> AsyncIterator[list[FakeAgent]]:
    """Agents that joined and have sessions until the block is left."""
    agents = [FakeAgent(f"host{number}") for number in range(1, count + 1)]
    async with asyncio.TaskGroup() as group:
        tasks = []
        for agent in agents:
            await agent.join(address, token)
            tasks.append(group.create_task(agent.run(address)))
        try:
            yield agents
        finally:
            for task in tasks:
                task.cancel()
