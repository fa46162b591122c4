"""CLI, controller and agent of byte streams in this process, over real gRPC and real containers."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from msgspec.structs import replace

from agent.health.connecting import OpenSocket
from agent.network.netns import Namespaces
from agent.preflight import Preflight
from agent.runtime.running.attachments import Attachments
from agent.session.streams import serve_stream
from agent.streams.serving import Streams
from cli.client import Client
from cli.streams.program import Stdio, converse
from controller.api.queries.info import ControllerFacts
from controller.grpc.admission import Admission
from controller.grpc.calls import ErrorsToStatus, received
from controller.grpc.control import Control
from controller.grpc.tunnels import GrpcTunnel
from pyswarm_core.aio.channel import CHANNEL_OPTIONS, SERVER_OPTIONS
from pyswarm_core.aio.system import RandomIds, SystemClock
from pyswarm_core.api.v1 import control_pb2_grpc, dispatcher_pb2, dispatcher_pb2_grpc
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NodeId, TaskId
from pyswarm_core.specs import ContainerSpec, TaskSpec
from pyswarm_core.states import TaskState
from pyswarm_core.streams.frames import Exit
from pyswarm_core.streams.requests import ATTACH, EXEC, AttachRequest, ExecRequest
from tests.fixtures import build
from tests.fixtures.desk import Desk, StoppedClock, Term
from tests.fixtures.envelopes import FixedAutolock
from tests.integration.runtime.conftest import RealWorld, host, rootfs, world

__all__ = ["host", "rootfs", "world"]

NODE = NodeId("n1")
TASK = "a1"
WAIT_S = 60.0
_SHOWN = {"tty", "open_stdin", "stdin_once"}


class _Dispatcher(dispatcher_pb2_grpc.DispatcherServicer):
    """The controller's end of tunnels."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def Tunnel(self, frames: object, context: Any) -> None:  # type: ignore[override]
        first = received(await context.read(), dispatcher_pb2.TunnelFrame)
        assert first is not None
        tunnel = GrpcTunnel(context)
        self._desk.tunnels.accept(first.tunnel_id, NODE, tunnel)
        await tunnel.wait_closed()


class Collected:
    """What a program wrote."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.err = bytearray()

    async def take_out(self, data: bytes) -> None:
        """Of stdout."""
        self.out += data

    async def take_err(self, data: bytes) -> None:
        """Of stderr."""
        self.err += data


class Rig:
    """One node with the container `a1`, which is the task web.1 with the id `a1`."""

    def __init__(self, world: RealWorld, address: str, desk: Desk, open_socket: OpenSocket) -> None:
        self.world = world
        self.address = address
        self.desk = desk
        self.alive = True
        """Whether the task's process runs, as its agent knows."""
        self.attachments = Attachments(SystemClock())
        self.code: int | None = None
        """The exit code of the task's process, once it is recorded."""
        self.ended = asyncio.Event()
        self.started = 0
        self.spec = ContainerSpec(image="x")
        self.pid = 0
        """Of the task's process, as its agent knows."""
        self.streams = Streams(world.runtime, self.attachments, self._records, open_socket)
        self.agent: asyncio.TaskGroup | None = None
        self.to_controller: Any = None

    def _records(self) -> dict[TaskId, Any]:
        code = self.code or 0
        detail = SimpleNamespace(pid=self.pid, addresses=(), exit_code=code, error="why")
        record = SimpleNamespace(
            task_id=TaskId(TASK),
            name="web.1",
            layer="",
            process_runs=self.alive and self.code is None,
            ended=self.code is not None,
            started_at=self.started,
            spec=TaskSpec(container_spec=self.spec),
            detail=detail,
        )
        return {TaskId(TASK): record}

    async def watch(self) -> None:
        """Take in the container's exit, as its agent's worker does."""
        async for ended in self.world.runtime.exits():
            self.code = ended.code
            self.ended.set()

    async def until_attached(self) -> None:
        """Return once a client is attached."""
        await self.attachments.until(TaskId(TASK), Instant(2**62))

    def dial_back(self, node_id: NodeId, request: dispatcher_pb2.OpenTunnel) -> None:
        """The agent gets the controller's request."""
        assert self.agent is not None
        self.agent.create_task(serve_stream(self.streams, self.to_controller, request))

    async def create(self, *command: str, script: str = "exec sleep 1000", **spec: Any) -> None:
        """Make the container."""
        words = command or ("/bin/sh", "-c", script)
        made = self.world.custom(TASK, words, **spec)
        self.spec = replace(self.spec, **{key: spec[key] for key in _SHOWN & spec.keys()})
        given = {"stdin": self.spec.open_stdin, "stdin_once": self.spec.stdin_once}
        self.pid = await self.world.runtime.create(replace(made, **given))

    async def start(self) -> None:
        """Start the container's program."""
        self.started = 1
        await self.world.runtime.start(TASK)

    async def run(self, *command: str, **options: Any) -> None:
        """Make and start the container."""
        await self.create(*command, **options)
        await self.start()

    async def attach(
        self, *, ref: str = "web.1", stdin: bool = False, **options: Any
    ) -> tuple[Exit, Collected]:
        """Attach as the CLI does."""
        seen = Collected()
        request = AttachRequest(ref=ref, stdin=stdin, **options)
        stdio = Stdio(stdin, self.spec.tty, stdout=seen.take_out, stderr=seen.take_err)
        with Client(self.address) as client:
            async with asyncio.timeout(WAIT_S):
                return await converse(client, ATTACH, request, stdio), seen

    async def exec(
        self, *words: str, ref: str = "web.1", stdin: bool = False, **options: Any
    ) -> tuple[Exit, Collected]:
        """Run a command as the CLI does."""
        seen = Collected()
        request = ExecRequest(ref=ref, args=words, interactive=stdin, **options)
        terminal = options.get("terminal", False)
        stdio = Stdio(stdin, terminal, stdout=seen.take_out, stderr=seen.take_err)
        with Client(self.address) as client:
            async with asyncio.timeout(WAIT_S):
                return await converse(client, EXEC, request, stdio), seen


@pytest.fixture
async def rig(world: RealWorld, host: Preflight) -> AsyncIterator[Rig]:
    ids = RandomIds()
    with tempfile.TemporaryDirectory(prefix="pyswarm-streams") as base, ExitStack() as stack:
        address = f"unix://{Path(base)}/api.sock"
        desk = Desk(build.state(nodes=build.nodes(1)), ids)
        task = build.task("web.1", node=NODE, state=TaskState.RUNNING, task_id=TASK)
        desk.put(Writes(objects=(build.service("web"),), tasks=[task]))
        interceptors = [ErrorsToStatus(ids), Admission()]
        server = grpc.aio.server(interceptors=interceptors, options=SERVER_OPTIONS)
        facts = ControllerFacts(version="1", store="none", join_addr="192.0.2.1:2377")
        control = Control(Term(desk), StoppedClock(), facts, list, FixedAutolock())
        control_pb2_grpc.add_ControlServicer_to_server(control, server)
        dispatcher = _Dispatcher(desk)  # type: ignore[abstract]
        dispatcher_pb2_grpc.add_DispatcherServicer_to_server(dispatcher, server)
        server.add_insecure_port(address)
        await server.start()
        namespaces = stack.enter_context(closing(Namespaces(Path(base) / "netns")))
        made = Rig(world, address, desk, namespaces.tcp_socket_in)
        desk.tunnels._ask = made.dial_back
        async with (
            grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel,
            made.streams,
            asyncio.TaskGroup() as made.agent,
        ):
            made.to_controller = channel
            watching = made.agent.create_task(made.watch())
            yield made
            watching.cancel()
            made.to_controller = None  # pytest holds on to what it passed, and this to sockets
        await server.stop(None)
