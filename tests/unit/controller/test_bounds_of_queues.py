"""What waits has a bound: requests, notices, changes, events, tunnels, and what travels at once."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from controller.api.changes.networks import create_network
from controller.api.changes.services import create_service
from controller.brain.decide import decide
from controller.brain.demands import demand_of
from controller.brain.orchestrator.plan import Plan
from controller.grpc.tunnels import GrpcTunnel
from controller.identity.caller import ANONYMOUS
from controller.leader.election import Term
from controller.leader.events.history import EventHistory
from controller.leader.exchanges import IMAGE_LIST, ImageList
from controller.leader.loop import Loop
from controller.leader.persistence.loading import Loaded
from controller.leader.persistence.saving import Saver
from controller.leader.persistence.unsaved import Unsaved
from controller.leader.sessions import NodeSession
from controller.leader.tools import Tools
from controller.leader.tunnels import Tunnels
from controller.metrics import Metrics
from controller.store.base import Outcome, Put, Txn
from controller.store.memory import MemoryKv
from controller.store.memory_store import MemoryStore
from pyswarm_core.aio.channel import CHANNEL_OPTIONS, SERVER_OPTIONS
from pyswarm_core.aio.echo import NoEchoes
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import EventKind, Writes
from pyswarm_core.errors import Unavailable
from pyswarm_core.ids import NetworkId, NodeId, ServiceId
from pyswarm_core.keys import Keys
from pyswarm_core.kinds import NODE
from pyswarm_core.limits import (
    ASSIGNMENT_CHANGES,
    ASSIGNMENT_QUEUE,
    DETAIL_LENGTH_MAX,
    EVENTS_KEPT,
    FAILURE_WINDOW,
    FAILURES_PENALISED,
    GRPC_MESSAGE_BYTES,
    NETWORKS_MAX,
    REQUESTS_WAITING,
    SERVICES_MAX,
    TUNNEL_FRAME_BYTES,
    TXN_IN_FLIGHT,
)
from pyswarm_core.specs import NetworkSpec
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from pyswarm_core.views import Event
from tests.fixtures import build
from tests.fixtures.build import NOW, Numbered
from tests.fixtures.envelopes import counted_nonces


class Stopped:
    """A clock that stands still."""

    def now(self) -> Instant:
        return NOW


def _loop() -> Loop:
    saver: Any = SimpleNamespace(revision=1, full="")
    tools = Tools(decide, saver, Stopped(), Numbered(), Metrics(), (), NoEchoes)
    return Loop(Loaded(build.state(), 1, Unsaved()), tools)


def _nothing(state: State, now: Instant, ids: object) -> tuple[Writes, None]:
    return Writes(), None


async def test_requests_that_wait_are_bounded() -> None:
    loop = _loop()
    waiting = [
        asyncio.ensure_future(loop.submit(_nothing, ANONYMOUS)) for _ in range(REQUESTS_WAITING)
    ]
    await asyncio.sleep(0)
    assert loop.queue_depths["requests"] == REQUESTS_WAITING == 1_000
    with pytest.raises(Unavailable, match="wait already"):
        await loop.submit(_nothing, ANONYMOUS)
    for one in waiting:
        one.cancel()


def test_notices_for_a_slow_agent_are_bounded() -> None:
    session = NodeSession(NodeId("n1"))
    for _ in range(ASSIGNMENT_QUEUE):
        session.notify(dispatcher_pb2.ControllerMessage())
    assert ASSIGNMENT_QUEUE == 64
    with pytest.raises(Unavailable, match="too slow"):
        session.notify(dispatcher_pb2.ControllerMessage())


def test_changes_for_a_slow_agent_are_bounded() -> None:
    session = NodeSession(NodeId("n1"))
    for number in range(ASSIGNMENT_CHANGES + 1):
        session.task_changed(build.task(f"web.{number + 1}"))
    assert len(session._changes.tasks) < ASSIGNMENT_CHANGES == 1_000
    assert session._needs_full


def test_events_that_are_kept_are_bounded() -> None:
    log = EventHistory()
    event = Event.of(EventKind.NODE_DOWN, "n1")
    log.record([event] * (EVENTS_KEPT + 10), NOW, 1)
    log.record([Event.of(EventKind.TASK_UNPLACED, "web", reason="no " * 10_000)], NOW, 1)
    assert len(log.kept()[-1].reason) == DETAIL_LENGTH_MAX == 512
    assert len(list(log.kept())) == EVENTS_KEPT == 10_000


async def test_a_tunnel_that_comes_as_its_opener_gives_up_is_closed() -> None:
    asked: list[dispatcher_pb2.OpenTunnel] = []
    tunnels = Tunnels(Numbered(), lambda node_id, request: asked.append(request))

    async def open_one() -> None:
        async with tunnels.open(NodeId("n1"), IMAGE_LIST, ImageList()):
            pytest.fail("it was cancelled")

    opener = asyncio.create_task(open_one())
    await asyncio.sleep(0)
    tunnel = GrpcTunnel(None)  # type: ignore[arg-type]  # nothing is read
    tunnels.accept(asked[0].tunnel_id, NodeId("n1"), tunnel)
    opener.cancel()
    await asyncio.wait([opener])
    assert len(tunnels) == 0
    async with asyncio.timeout(60):
        await tunnel.wait_closed()


def test_services_and_networks_are_bounded_in_number() -> None:
    state = build.state()
    web, net = build.service("web"), build.network("net")
    state.services.update({ServiceId(f"s{number}"): web for number in range(SERVICES_MAX)})
    state.networks.update({NetworkId(f"n{number}"): net for number in range(NETWORKS_MAX)})
    assert (SERVICES_MAX, NETWORKS_MAX) == (10_000, 5_000)
    with pytest.raises(Unavailable, match="the limit"):
        create_service(state, web.spec, (), NOW, Numbered())
    with pytest.raises(Unavailable, match="the limit"):
        create_network(state, NetworkSpec(name="another"), (), NOW, Numbered())


def test_messages_are_bounded_on_both_sides() -> None:
    received = "grpc.max_receive_message_length"
    assert dict(CHANNEL_OPTIONS)[received] == GRPC_MESSAGE_BYTES == 64 << 20
    assert dict(SERVER_OPTIONS)[received] == TUNNEL_FRAME_BYTES == 4 << 20


async def test_a_frame_of_a_tunnel_is_bounded() -> None:
    frame = dispatcher_pb2.TunnelFrame()
    frame.log_lines.texts.append(b"x" * (4 << 20))

    async def read() -> object:
        return frame

    context: Any = SimpleNamespace(read=read)
    assert TUNNEL_FRAME_BYTES == 4 << 20
    with pytest.raises(Unavailable, match="at once"):
        await GrpcTunnel(context).read()


@pytest.mark.parametrize(("failures", "age", "last"), [(4, 0, 0), (5, 0, 1), (5, 301, 0)])
def test_a_node_is_avoided_after_five_failures_within_five_minutes(
    failures: int, age: int, last: int
) -> None:
    failed = [
        build.task(
            "web.1", node="n1", state=TaskState.FAILED, task_id=f"t{n}", at=NOW - age * SECOND
        )
        for n in range(failures)
    ]
    web = build.service("web")
    state = build.state(nodes=build.nodes(2), services=[web], tasks=failed)
    failing = demand_of(state, Plan(web), web.spec, NOW).failing
    row = state.node_table.rows[NodeId("n1")]
    assert (0 if failing is None else failing[row]) == last
    assert (FAILURES_PENALISED, FAILURE_WINDOW) == (5, 300 * SECOND)


async def test_transactions_under_way_are_bounded() -> None:
    kv = MemoryKv()
    store = MemoryStore(kv, Stopped())
    under_way, most = 0, 0

    class Slow(MemoryStore):
        async def commit(self, txn: Txn) -> Outcome:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1
            return await store.commit(txn)

    state = build.state(nodes=[build.node(f"n{number}", number=number) for number in range(1, 700)])
    keys = Keys()
    won = await store.commit(Txn((), (Put(keys.leader, b"me"),)))
    term = Term(0, 2, won.revision, won.revision, NOW)
    saver = Saver(
        Slow(kv, Stopped()),
        keys,
        term,
        b"me",
        envelope=counted_nonces(),
        on_error=lambda error: None,
    )
    unsaved = Unsaved()
    unsaved.objects[NODE.name].update(dict.fromkeys(state.nodes))
    await saver.save(state, unsaved)
    assert most == TXN_IN_FLIGHT == 4


def test_services_with_new_limits_for_a_slow_agent_are_bounded() -> None:
    session = NodeSession(NodeId("n1"))
    for number in range(ASSIGNMENT_CHANGES + 1):
        assert len(session._changes.limits) <= ASSIGNMENT_CHANGES == 1_000
        session.limits_changed(ServiceId(f"s{number}"))
    assert not session._changes.limits
    assert session._needs_full
