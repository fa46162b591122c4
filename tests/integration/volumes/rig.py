"""CLI, controller and the agents of two hosts in this process, over real gRPC."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from msgspec.structs import replace

from agent.session.streams import serve_stream
from cli.client import Client
from controller.api.queries.info import ControllerFacts
from controller.grpc.admission import Admission
from controller.grpc.calls import ErrorsToStatus, received
from controller.grpc.control import Control
from controller.grpc.tunnels import GrpcTunnel
from pyswarm_core.aio.channel import CHANNEL_OPTIONS, SERVER_OPTIONS
from pyswarm_core.aio.system import RandomIds
from pyswarm_core.api.v1 import control_pb2_grpc, dispatcher_pb2, dispatcher_pb2_grpc
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NodeId
from pyswarm_core.kinds import VOLUME
from pyswarm_core.limits import PROTOCOL
from pyswarm_core.volumes.volume import Volume, VolumeId, VolumeSpec
from tests.fixtures import build
from tests.fixtures.desk import Desk, StoppedClock, Term
from tests.fixtures.envelopes import FixedAutolock
from tests.integration.volumes.disk import ID, Host

NODES = (NodeId("n1"), NodeId("n2"))


class _Dispatcher(dispatcher_pb2_grpc.DispatcherServicer):
    """The controller's end of tunnels."""

    def __init__(self, rig: "Rig") -> None:
        self._rig = rig

    async def Tunnel(self, frames: object, context: Any) -> None:  # type: ignore[override]
        first = received(await context.read(), dispatcher_pb2.TunnelFrame)
        assert first is not None
        tunnel = GrpcTunnel(context)
        node_id = self._rig.asked.pop(first.tunnel_id)
        self._rig.desk.tunnels.accept(first.tunnel_id, node_id, tunnel)
        await tunnel.wait_closed()


class Rig:
    """Two nodes, of which the first has the volume `data`."""

    def __init__(self, address: str, desk: Desk, hosts: dict[NodeId, Host]) -> None:
        self.address = address
        self.desk = desk
        self.hosts = hosts
        self.asked: dict[str, NodeId] = {}
        self.agents: asyncio.TaskGroup | None = None
        self.to_controller: Any = None

    def dial_back(self, node_id: NodeId, request: dispatcher_pb2.OpenTunnel) -> None:
        """The agent gets the controller's request."""
        assert self.agents is not None
        self.asked[request.tunnel_id] = node_id
        streams = self.hosts[node_id].streams
        self.agents.create_task(serve_stream(streams, self.to_controller, request))

    def client(self) -> Client:
        """A new connection of the CLI."""
        return Client(self.address)

    def volume(self) -> Volume:
        """The volume as the controller has it."""
        return self.desk.state.of(VOLUME)[VolumeId(ID)]


@asynccontextmanager
async def serving(here: Host, there: Host) -> AsyncIterator[Rig]:
    """The hosts as nodes of a fleet."""
    ids = RandomIds()
    with tempfile.TemporaryDirectory(prefix="pyswarm-volumes") as base:
        address = f"unix://{Path(base)}/api.sock"
        nodes = [
            replace(node, description=replace(node.description, protocol=PROTOCOL))
            for node in build.nodes(2, addr="127.0.0.1")
        ]
        desk = Desk(build.state(nodes=nodes), ids)
        volume = Volume(id=VolumeId(ID), spec=VolumeSpec(name="data"), copies=NODES[:1])
        desk.put(Writes(objects=(volume,)))
        server = grpc.aio.server(
            interceptors=[ErrorsToStatus(ids), Admission()], options=SERVER_OPTIONS
        )
        facts = ControllerFacts(version="1", store="none", join_addr="192.0.2.1:2377")
        control = Control(Term(desk), StoppedClock(), facts, list, FixedAutolock())
        control_pb2_grpc.add_ControlServicer_to_server(control, server)
        rig = Rig(address, desk, dict(zip(NODES, (here, there), strict=True)))
        dispatcher = _Dispatcher(rig)  # type: ignore[abstract]
        dispatcher_pb2_grpc.add_DispatcherServicer_to_server(dispatcher, server)
        server.add_insecure_port(address)
        await server.start()
        desk.tunnels._ask = rig.dial_back
        async with (
            grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel,
            here.streams,
            there.streams,
            asyncio.TaskGroup() as rig.agents,
        ):
            rig.to_controller = channel
            yield rig
            rig.to_controller = None
        await server.stop(None)
