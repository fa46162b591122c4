"""A turn is done in slices: others run after each request and after each decision."""

import asyncio
from typing import Any
from unittest.mock import Mock, patch

import pytest
from msgspec.structs import replace

from controller.brain.slices import finish
from controller.identity.caller import ANONYMOUS
from controller.leader.endpoints import sets
from controller.leader.leadership import Mutation, in_slices
from controller.leader.loop import Loop
from controller.leader.persistence.loading import Loaded
from controller.leader.persistence.unsaved import Unsaved
from controller.leader.tools import Tools
from controller.metrics import Metrics
from pyswarm_core.clock import Instant
from pyswarm_core.decision import BEGINNING, Decision, Dirty, Writes
from pyswarm_core.ids import IdSource, NetworkId, NodeId, ServiceId
from pyswarm_core.kinds import NODE
from pyswarm_core.limits import DECISIONS_PER_TURN
from pyswarm_core.objects import Endpoint, VirtualIp
from pyswarm_core.specs import PortConfig
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from tests.fixtures import build
from tests.fixtures.desk import StoppedClock

WEB = ServiceId("web")
REQUESTS = 20


class Saver:
    """Has saved everything at once; counts the pauses between slices."""

    revision = 1
    bytes_written = 0
    full = None

    def __init__(self) -> None:
        self.pauses = 0

    async def yield_loop(self) -> None:
        self.pauses += 1
        await asyncio.sleep(0)

    async def save(self, state: State, unsaved: Unsaved) -> dict[str, str]:
        return {}


class Brain:
    """Never finished: each decision is cut."""

    def __init__(self, saver: Saver) -> None:
        self.paused_before: list[int] = []
        self._saver = saver

    def decide(self, state: State, dirty: Dirty, now: Instant, ids: IdSource) -> Decision:
        self.paused_before.append(self._saver.pauses)
        return Decision(again={WEB: BEGINNING})


def loop_over(saver: Saver, brain: Brain) -> Loop:
    state = build.state(nodes=build.nodes(1), services=[build.service("web")])
    cast: Any = saver
    nobody: Any = Mock()  # no host is probed here
    tools = Tools(
        decide=brain.decide,
        saver=cast,
        clock=StoppedClock(),
        ids=build.Numbered(),
        metrics=Metrics(),
        controllers=("here",),
        echoes=lambda _: nobody,
    )
    return Loop(Loaded(state, 1, Unsaved()), tools)


async def test_decisions_of_one_turn_are_bounded_and_others_run_after_each() -> None:
    saver = Saver()
    brain = Brain(saver)
    await loop_over(saver, brain)._turn()
    assert brain.paused_before == list(range(DECISIONS_PER_TURN))


async def test_others_run_after_each_request_and_new_ones_wait_for_the_next_turn() -> None:
    saver = Saver()
    loop = loop_over(saver, Brain(saver))
    paused_before: list[int] = []

    def mutation(state: State, now: Instant, ids: IdSource) -> tuple[Writes, None]:
        paused_before.append(saver.pauses)
        return Writes(), None

    async with asyncio.TaskGroup() as group:
        for _ in range(REQUESTS):
            group.create_task(loop.submit(mutation, ANONYMOUS))
        await asyncio.sleep(0)
        await loop._turn()
    assert paused_before == list(range(1, REQUESTS + 1))


async def test_the_session_of_a_node_that_is_called_down_ends() -> None:
    """Its name may be another's when it is heard of again: it has to say hello."""
    saver = Saver()
    loop = loop_over(saver, Brain(saver))
    (node,) = loop.state.nodes.values()
    session = loop.opened(node.id)
    await loop._turn()
    assert loop.sessions.holds(session)
    with patch.object(loop.node_watch, "judge", return_value=[node]):
        await loop._turn()
    assert session.closed


class SlowSaver(Saver):
    """Pauses until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.paused = asyncio.Event()
        self.goes_on = asyncio.Event()

    async def yield_loop(self) -> None:
        await super().yield_loop()
        self.paused.set()
        await self.goes_on.wait()


async def test_agents_are_told_nothing_before_the_term_has_looked_at_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sets, "ENDPOINT_SLICE", 1)
    saver = SlowSaver()
    loop = loop_over(saver, Brain(saver))
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        running = group.create_task(loop.run())
        telling = group.create_task(loop.wait_saved())
        await saver.paused.wait()
        assert not telling.done()
        saver.goes_on.set()
        await telling
        assert loop.source.endpoints.looked_at
        running.cancel()


class Remembering(Saver):
    """Notes the services of each save that is not of events alone."""

    def __init__(self) -> None:
        super().__init__()
        self.saves: list[list[str]] = []

    async def save(self, state: State, unsaved: Unsaved) -> dict[str, str]:
        if len(unsaved) > len(unsaved.pages):
            self.saves.append(list(unsaved.objects["service"]))
        return {}


def _put(service_id: str, endpoint: Endpoint) -> Mutation[None]:
    web = build.service("web")
    spec = replace(web.spec, name=service_id)
    put = replace(web, id=ServiceId(service_id), spec=spec, endpoint=endpoint)
    return lambda state, now, ids: (Writes(objects=(put,)), None)


def _made(writes: Writes) -> Mutation[None]:
    return lambda state, now, ids: (writes, None)


PORT = Endpoint(ports=(PortConfig(target_port=80, published_port=8080),))
VIP = Endpoint(virtual_ips=(VirtualIp(network_id=NetworkId("net"), addr="10.0.1.254"),))


async def _saves(*mutations: Mutation[None]) -> list[list[str]]:
    saver = Remembering()
    loop = loop_over(saver, Brain(saver))
    async with asyncio.TaskGroup() as group:
        for mutation in mutations:
            group.create_task(loop.submit(mutation, ANONYMOUS))
        await asyncio.sleep(0)
        await loop._turn()
        while loop._requests:
            await loop._turn()
    return saver.saves


@pytest.mark.parametrize("held", [PORT, VIP], ids=["port", "address"])
async def test_what_a_service_gives_up_is_stored_before_another_takes_it(held: Endpoint) -> None:
    """A turn may take several transactions, and a leader may die between any two."""
    taken = await _saves(_put("web", held), _put("web", Endpoint()), _put("api", held))
    assert taken == [["web"], ["api"]]
    apart = await _saves(_put("web", held), _put("web", Endpoint()), _put("api", Endpoint()))
    assert apart == [["web", "api"]], "nothing is taken over: one save"
    back = await _saves(_put("web", held), _put("web", Endpoint()), _put("web", held))
    assert back == [["web"]], "its own"


async def test_a_decision_is_made_anew_once_what_it_takes_over_is_stored() -> None:
    """An automatic rollback takes a port that its users gave up in the same turn."""
    saver = Remembering()
    loop = loop_over(saver, Brain(saver))
    writes, _ = finish(in_slices(_put("web", PORT)(loop.state, Instant(0), build.Numbered())))
    loop.state.apply(writes)
    stored_before: list[int] = []

    def decide(state: State, dirty: Dirty, now: Instant, ids: IdSource) -> Decision:
        stored_before.append(len(saver.saves))
        writes, _ = finish(in_slices(_put("api", PORT)(state, now, ids)))
        return Decision(writes=writes)

    with patch.object(loop, "_tools", replace(loop._tools, decide=decide)):
        async with asyncio.TaskGroup() as group:
            group.create_task(loop.submit(_put("web", Endpoint()), ANONYMOUS))
            await asyncio.sleep(0)
            await loop._turn()
    assert stored_before == [0, 1]
    assert saver.saves == [["web"], ["api"]]


@pytest.mark.parametrize("decided", [False, True], ids=["requested", "decided"])
async def test_a_container_leaves_its_layer_once_the_removal_of_its_node_is_stored(
    *, decided: bool
) -> None:
    """A leader that loads the node, and the container with another, would delete the layer."""
    saver = Remembering()
    loop = loop_over(saver, Brain(saver))
    (node,) = loop.state.nodes.values()
    here = replace(build.container("db"), pinned_node=node.id)
    web = build.service("web")
    loop.state.apply(Writes(objects=(here, web)))
    removal = Writes(removed=(NODE.object_name(node.id),))
    others = Writes(objects=(replace(web, updated_at=Instant(1)),))
    moved = Writes(objects=(replace(here, pinned_node=NodeId("")),))

    def decide(state: State, *_: object) -> Decision:
        moves = decided and state.services[here.id].pinned_node
        return Decision(writes=moved if moves else Writes())

    async with asyncio.TaskGroup() as group:
        with patch.object(loop, "_tools", replace(loop._tools, decide=decide)):
            for writes in (removal, others) if decided else (removal, others, moved):
                group.create_task(loop.submit(_made(writes), ANONYMOUS))
            await asyncio.sleep(0)
            await loop._turn()
            while loop._requests:
                await loop._turn()
    assert saver.saves == [[web.id], [here.id]]


async def test_an_agent_is_told_that_a_task_was_removed_whose_stop_was_withheld() -> None:
    """Once it is removed, the end of the wait tells nobody of it."""
    saver = Saver()
    loop = loop_over(saver, Brain(saver))
    kept, removed = build.task("web.1", node="n1"), build.task("web.2", node="n1")
    loop.state.apply(Writes(tasks=[kept, removed]))
    loop._tracker.barrier._withheld.update(dict.fromkeys((kept.id, removed.id)))
    told: list[str] = []

    def mutation(state: State, now: Instant, ids: IdSource) -> tuple[Writes, None]:
        stopped = replace(kept, desired_state=TaskState.SHUTDOWN)
        return Writes(tasks=[stopped], removed_tasks=[removed.id]), None

    with patch.object(
        loop.sessions, "tasks_changed", lambda tasks: told.extend(t.id for t in tasks)
    ):
        async with asyncio.TaskGroup() as group:
            group.create_task(loop.submit(mutation, ANONYMOUS))
            await asyncio.sleep(0)
            await loop._turn()
    assert told == [removed.id]
