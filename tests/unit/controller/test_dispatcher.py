"""What agents say on their sessions."""

import asyncio
from typing import Any

from controller.servers.dispatcher import Dispatcher
from controller.servers.sessions import Session
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.ids import NodeId
from tests.fixtures import build


class SlowStore:
    """A loop that hears, and never gets a change confirmed."""

    def __init__(self) -> None:
        self.state = build.state()
        self.heard_of: list[NodeId] = []
        self.submitted = 0

    def heard(self, node_id: NodeId) -> None:
        self.heard_of.append(node_id)

    def faults(self, node_id: NodeId, faults: object) -> None:
        pass

    async def submit(self, mutation: object) -> None:
        self.submitted += 1
        await asyncio.Event().wait()


class Says:
    """A call that brings these messages."""

    def __init__(self, messages: list[dispatcher_pb2.AgentMessage]) -> None:
        self._messages = messages

    async def read(self) -> dispatcher_pb2.AgentMessage | None:
        await asyncio.sleep(0)
        return self._messages.pop(0) if self._messages else None


async def test_a_worn_key_does_not_keep_heartbeats_from_being_heard_while_the_store_is_slow() -> (
    None
):
    beat = dispatcher_pb2.AgentMessage(heartbeat=dispatcher_pb2.Heartbeat(worn_key=1))
    loop: Any = SlowStore()
    leading: Any = None
    context: Any = Says([beat] * 4)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        await Dispatcher(leading)._read(loop, Session(NodeId("n1")), context, group)
    assert loop.heard_of == ["n1"] * 4
    assert loop.submitted == 1
