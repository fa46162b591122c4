"""A move that is requested right after an election waits for the nodes."""

import asyncio

import pytest
from msgspec.structs import replace

from controller.api import moves
from controller.api.changes.moving.moves import Unheard
from controller.identity.caller import CONTROLLER
from controller.leader.leadership import Mutation
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict
from pyswarm_core.ids import NodeId
from pyswarm_core.states import NodeState
from pyswarm_core.volumes.volume import Volume
from tests.fixtures import build
from tests.fixtures.build import Numbered
from tests.fixtures.desk import Desk


class World:
    """A leader, with a volume on n1; nodes are in this state."""

    def __init__(self, state: NodeState, names: tuple[str, ...] = ("n1", "n2")) -> None:
        self.desk = Desk(build.state(nodes=build.nodes(2)), Numbered())
        self.desk.put(Writes(objects=(build.volume("data", "n1"),)))
        self.asked = 0
        self.become(state, *names)

    def become(self, state: NodeState, *names: str) -> None:
        nodes = [self.desk.state.nodes[NodeId(name)] for name in names]
        changed = [replace(one, status=replace(one.status, state=state)) for one in nodes]
        self.desk.put(Writes(objects=tuple(changed)))

    async def submit(self, mutation: Mutation[tuple[Volume, ...]]) -> tuple[Volume, ...]:
        self.asked += 1
        return await self.desk.submit(mutation, CONTROLLER)

    async def move(self) -> list[str]:
        found = await moves.move(self.submit, ["data"], "n2", force=False)
        return [one.work.to for one in found if one.work]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "LOOK_PERIOD_S", 0.0)


@pytest.mark.parametrize("names", [("n1",), ("n2",), ("n1", "n2")])
async def test_it_waits_until_both_nodes_have_connected(names: tuple[str, ...]) -> None:
    world = World(NodeState.UNKNOWN, names)
    moving = asyncio.create_task(world.move())
    while world.asked < 3:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert not moving.done()
    world.become(NodeState.READY, *names)
    assert await moving == ["n2"]


async def test_a_node_that_is_down_by_then_is_an_error() -> None:
    world = World(NodeState.UNKNOWN, ("n1",))
    moving = asyncio.create_task(world.move())
    while world.asked < 3:  # noqa: ASYNC110
        await asyncio.sleep(0)
    world.become(NodeState.DOWN, "n1")
    with pytest.raises(Conflict, match="which is down: wait until it is ready, or give up"):
        await moving


async def test_the_wait_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert moves.HEARD_S == 12
    monkeypatch.setattr(moves, "HEARD_S", 0.0)
    with pytest.raises(Unheard, match='destination node "n2" is unknown, not ready'):
        await World(NodeState.UNKNOWN, ("n2",)).move()


@pytest.mark.parametrize("state", [NodeState.DOWN, NodeState.DISCONNECTED])
async def test_it_waits_for_no_node_that_the_leader_has_lost(state: NodeState) -> None:
    world = World(state, ("n1",))
    with pytest.raises(Conflict, match="which is"):
        await world.move()
    assert world.asked == 1
