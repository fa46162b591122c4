"""Agents get in while hosts that say nothing hold all places of strangers."""

import asyncio
from typing import Any

from controller.grpc.admission import STRANGERS, Gate
from controller.grpc.dispatcher import Dispatcher
from controller.leader.agenda import Agenda
from controller.leader.bindsources import BindSourceReports
from controller.leader.sessions import NodeSession, Sessions
from pyswarm_core.aio.credentials import ClientCredentials
from pyswarm_core.api.v1 import dispatcher_pb2, objects_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Exhausted
from pyswarm_core.ids import NodeId
from pyswarm_core.objects import Node
from tests.fixtures import build
from tests.fixtures.desk import StoppedClock
from tests.fixtures.identity import FLEET, auth_context, naming

AGENTS = 40
HOSTS = 4


class Leader:
    """A leader and its loop: sessions that were opened."""

    def __init__(self) -> None:
        nodes = build.nodes(AGENTS)
        self.shown = {node.id: FLEET.node(node.id) for node in nodes}
        self.state = build.state(nodes=[naming(n, self.shown[n.id].cert_pem) for n in nodes])
        self.state.apply(Writes(cluster=FLEET.cluster))
        self.sessions = self
        self.sources = BindSourceReports(self.state, Sessions(()), Agenda(), asyncio.Event())
        self.leader = ""
        self.opened_for: list[NodeId] = []

    def current(self) -> "Leader":
        return self

    async def settled(self) -> None:
        pass

    def opened(self, node_id: NodeId) -> NodeSession:
        self.opened_for.append(node_id)
        return NodeSession(node_id)

    def hello(self, node_id: NodeId, greeted: object) -> None:
        pass

    def close(self, session: NodeSession) -> None:
        pass


class Stream:
    """A call of one host that brings this hello, or nothing for ever."""

    def __init__(
        self, peer: str, node: Node | None = None, shown: ClientCredentials | None = None
    ) -> None:
        self._peer = peer
        self._node = node
        self._shown = shown

    def peer(self) -> str:
        return self._peer

    async def read(self) -> dispatcher_pb2.AgentMessage:
        await asyncio.sleep(0)
        if self._node is None:
            await asyncio.Event().wait()
            raise AssertionError
        hello = dispatcher_pb2.Hello(
            description=to_proto(self._node.description, objects_pb2.NodeDescription()),
            addr=self._node.status.addr,
        )
        return dispatcher_pb2.AgentMessage(hello=hello)

    def auth_context(self) -> dict[str, list[bytes]]:
        assert self._shown is not None
        return auth_context(self._shown)


class Serving(Dispatcher):
    """A dispatcher whose sessions end when they are open."""

    async def _converse(self, *_: object) -> None:
        pass


async def test_a_fleet_gets_in_while_silent_hosts_hold_all_places_and_renew_them() -> None:
    leader: Any = Leader()
    gate = Gate(STRANGERS)
    dispatcher = Serving(leader, StoppedClock(), gate)
    yielded = 0

    async def silent(host: int) -> None:
        nonlocal yielded
        while True:
            stream: Any = Stream(f"ipv4:192.0.2.{host}:1")
            try:
                await dispatcher.Session(None, stream)
            except Exhausted:
                yielded += 1
                await asyncio.sleep(0.01)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        per_host = STRANGERS.per_caller
        held = [group.create_task(silent(n // per_host)) for n in range(HOSTS * per_host)]
        await asyncio.sleep(0)
        assert gate.total == STRANGERS.total
        for number, node in enumerate(leader.state.nodes.values()):
            shown = leader.shown[node.id]
            agent: Any = Stream(f"ipv6:[2001:db8:0:{number:x}::1]:1", node, shown)
            await dispatcher.Session(None, agent)
            assert gate.total <= STRANGERS.total
        for task in held:
            task.cancel()
    assert leader.opened_for == list(leader.state.nodes)
    assert yielded >= 1
    assert gate.total == 0
