"""What agents say on their sessions."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from controller.grpc import dispatcher
from controller.grpc.dispatcher import Dispatcher
from controller.identity.ca import csr_pem, new_key
from controller.leader.sessions import NodeSession
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.api.v1.dispatcher_pb2 import ControllerMessage as Message
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Exhausted, InvalidArgument
from pyswarm_core.ids import NodeId, TaskId
from pyswarm_core.indexes.columns import pack_statuses
from pyswarm_core.limits import STRANGERS_MAX
from pyswarm_core.objects import NO_DETAIL, TaskStatus
from pyswarm_core.states import TaskState
from tests.fixtures import build
from tests.fixtures.desk import StoppedClock
from tests.fixtures.identity import FLEET, auth_context, naming

CREDENTIALS = FLEET.node("n1")


class SlowStore:
    """A loop that hears, and never gets a change confirmed."""

    def __init__(self) -> None:
        self.state = build.state(nodes=[naming(build.node("n1"), CREDENTIALS.cert_pem)])
        self.state.apply(Writes(cluster=FLEET.cluster))
        self.heard_of: list[NodeId] = []
        self.submitted = 0

    def heard(self, node_id: NodeId) -> None:
        self.heard_of.append(node_id)

    def faults(self, node_id: NodeId, faults: object, disk: object) -> None:
        pass

    async def submit(self, mutation: object, *_: object) -> None:
        self.submitted += 1
        await asyncio.Event().wait()


class Says:
    """A call that brings these messages."""

    def __init__(self, messages: list[dispatcher_pb2.AgentMessage]) -> None:
        self._messages = messages

    async def read(self) -> dispatcher_pb2.AgentMessage | None:
        await asyncio.sleep(0)
        return self._messages.pop(0) if self._messages else None


class Telling:
    """A leader's loop and a session of many parts: what was done, in order."""

    def __init__(self, parts: list[Message | None]) -> None:
        self.done: list[str] = []
        self.sessions = self
        self.wake = asyncio.Event()
        self.source = self.revision = None
        self.ends_after = len(parts) + 1
        self._parts = parts

    def holds(self, session: object) -> bool:
        return self.done.count("saved") <= self.ends_after

    async def wait_saved(self) -> None:
        self.done.append("saved")

    def take_notices(self) -> list[Message]:
        return []

    def take(self, source: object, revision: object) -> Iterator[Message | None]:
        for part in self._parts:
            self.done.append("slice")
            yield part

    async def write(self, message: Message) -> None:
        await asyncio.sleep(0)
        self.done.append("more" if message.assignments.more else "last")


def part(*, more: bool) -> Message:
    return Message(assignments=dispatcher_pb2.Assignments(more=more))


async def test_each_slice_of_what_is_told_waits_for_the_store() -> None:
    told: Any = Telling([part(more=True), None, part(more=True), part(more=False)])
    leading: Any = None
    assert await Dispatcher(leading, StoppedClock())._tell(told, told, told)
    slices = [["saved", "slice", "more"], ["saved", "slice"]] * 2
    assert told.done == [*slices[0], *slices[1], *slices[2], "saved", "slice", "last"]


async def test_a_session_that_was_replaced_tells_no_further_part() -> None:
    told: Any = Telling([part(more=True)] * 9)
    told.ends_after = 2
    leading: Any = None
    assert not await Dispatcher(leading, StoppedClock())._tell(told, told, told)
    assert told.done.count("slice") == 2


class Intake:
    """A loop that notes what it is told of tasks."""

    def __init__(self, session: NodeSession) -> None:
        self.state = build.state()
        self.taken: list[int] = []
        self.heard_of = 0
        self.closes_after = 10
        self._session = session

    def heard(self, node_id: NodeId) -> None:
        self.heard_of += 1

    def intake(self, node_id: NodeId, statuses: list[TaskStatus]) -> None:
        self.taken.append(len(statuses))
        self._session.closed = len(self.taken) >= self.closes_after


async def taken(count: int, closes_after: int = 10) -> Intake:
    """What comes of one report of so many statuses."""
    session = NodeSession(NodeId("n1"))
    loop = Intake(session)
    loop.closes_after = closes_after
    told = pack_statuses(
        [TaskStatus(TaskId(f"{i:025}"), TaskState.RUNNING, NO_DETAIL) for i in range(count)]
    )
    whatever: Any = loop
    leading: Any = None
    await Dispatcher(leading, StoppedClock())._take_statuses(whatever, session, told)
    return loop


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "STATUSES_PER_MESSAGE", 2)
    monkeypatch.setattr(dispatcher, "STATUSES_MAX", 6)


@pytest.mark.usefixtures("small")
async def test_a_large_report_is_taken_in_by_slices_and_is_a_sign_of_life_in_each() -> None:
    loop = await taken(5)
    assert (loop.taken, loop.heard_of) == ([2, 2, 1], 3)
    assert (await taken(0)).taken == []


@pytest.mark.usefixtures("small")
async def test_a_report_of_absurdly_many_tasks_is_refused() -> None:
    assert (await taken(6)).taken == [2, 2, 2]
    with pytest.raises(InvalidArgument, match="statuses: count 7 is not valid: expected at most 6"):
        await taken(7)


@pytest.mark.usefixtures("small")
async def test_no_more_of_a_report_is_taken_once_the_session_was_replaced() -> None:
    assert (await taken(6, closes_after=1)).taken == [2]


async def test_a_worn_key_does_not_keep_heartbeats_from_being_heard_while_the_store_is_slow() -> (
    None
):
    beat = dispatcher_pb2.AgentMessage(heartbeat=dispatcher_pb2.Heartbeat(worn_key=1))
    loop: Any = SlowStore()
    leading: Any = None
    context: Any = Says([beat] * 4)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        dispatcher = Dispatcher(leading, StoppedClock())
        await dispatcher._read(loop, NodeSession(NodeId("n1")), context, group)
    assert loop.heard_of == ["n1"] * 4
    assert loop.submitted == 1


class Renews:
    """The call of an agent behind an address."""

    def __init__(self, number: int) -> None:
        self._peer = f"ipv4:10.0.{number >> 8}.{number & 255}:1"

    def peer(self) -> str:
        return self._peer

    def auth_context(self) -> dict[str, list[bytes]]:
        return NODE


NODE = auth_context(CREDENTIALS)


async def test_a_fleet_that_renews_at_once_waits_within_bounds_and_delays_no_session() -> None:
    loop = SlowStore()

    class Leads:
        def current(self) -> SlowStore:
            return loop

    leads: Any = Leads()
    controller = Dispatcher(leads, StoppedClock())
    request = dispatcher_pb2.RenewCertificateRequest(csr=csr_pem(new_key()))
    contexts: list[Any] = [Renews(number) for number in range(STRANGERS_MAX + 100)]
    calls = [asyncio.create_task(controller.RenewCertificate(request, one)) for one in contexts]
    async with asyncio.timeout(60):
        for call in calls[STRANGERS_MAX:]:
            await asyncio.wait([call])
    assert not any(call.done() for call in calls[:STRANGERS_MAX])
    for call in calls[STRANGERS_MAX:]:
        with pytest.raises(Exhausted, match="2000 renewals of certificates of all callers"):
            await call
    assert loop.submitted == dispatcher.OPENING_AT_ONCE
    async with asyncio.timeout(60), controller._line(NodeId("n2")):
        pass  # a session opens
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert controller._renewals.total == 0
