"""However many follow and watch, few of them are written to in one pass of the event loop."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine

import pytest
from msgspec.structs import replace

from controller.api import streams
from controller.api.streams import Send, certain, follow_events, watch_service
from controller.leader.watches import Seen
from pyswarm_core.decision import Writes
from pyswarm_core.limits import EVENTS_PER_MESSAGE, TOLD_AT_ONCE
from pyswarm_core.objects import UpdateStatus
from pyswarm_core.states import UpdateState
from pyswarm_core.views import Event, EventQuery, ServiceProgress
from tests.fixtures import build
from tests.fixtures.build import Numbered
from tests.fixtures.desk import Desk, StoppedClock, Term

FOLLOWERS = 100


class Passes:
    """Counts what is written in each pass of the event loop."""

    def __init__(self) -> None:
        self.writes = Counter[int]()
        self.number = 0

    async def count(self) -> None:
        """For ever."""
        while True:
            self.number += 1
            await asyncio.sleep(0)

    async def write(self, message: object) -> None:
        self.writes[self.number] += 1


Follow = Callable[[Term, Send[object]], Coroutine[None, None, None]]


async def _follow(term: Term, send: Send[object]) -> None:
    await follow_events(term, EventQuery(follow=True), StoppedClock(), send)


async def _watch(term: Term, send: Send[object]) -> None:
    await watch_service(term, "web", send, follow=True)


@pytest.mark.parametrize(("follow", "told"), [(_follow, 1), (_watch, 2)])
async def test_few_are_told_in_one_pass(follow: Follow, told: int) -> None:
    web = build.service("web", replicas=2)
    desk = Desk(build.state(services=[web]), Numbered())
    passes, term = Passes(), Term(desk)
    tasks = [asyncio.create_task(passes.count())]
    tasks += [asyncio.create_task(follow(term, passes.write)) for _ in range(FOLLOWERS)]
    for _ in range(200):
        await asyncio.sleep(0)
    desk.events.record([Event.of("service.update", "web", "web")], build.NOW, 1)
    desk.put(Writes(objects=(replace(web, spec=build.service("web", replicas=3).spec),)))
    async with asyncio.timeout(60):
        while passes.writes.total() < told * FOLLOWERS:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    assert max(passes.writes.values()) <= TOLD_AT_ONCE == 16


async def test_a_stream_that_does_not_follow_ends_with_the_pause_of_an_update() -> None:
    status = UpdateStatus(state=UpdateState.PAUSED, message="update paused")
    web = replace(build.service("web", replicas=2), update_status=status)
    desk = Desk(build.state(services=[web]), Numbered())
    sent: list[ServiceProgress] = []

    async def send(progress: ServiceProgress) -> None:
        sent.append(progress)

    async with asyncio.timeout(60):
        await watch_service(Term(desk), "web", send, follow=False)
    assert [(one.is_paused, one.update_message) for one in sent] == [(True, "update paused")]


def test_what_changed_during_its_computation_is_no_verdict() -> None:
    paused = ServiceProgress(
        desired=2, filled=True, failure="web.1 failed", update_state="paused", running=1
    )
    assert certain(Seen(paused, settled=True)) is paused
    assert certain(Seen(paused, settled=False)) == ServiceProgress(desired=2, running=1)


@pytest.mark.parametrize("filters", [0, 100])
async def test_few_events_are_held_against_filters_in_one_pass(
    filters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(build.state(), Numbered())
    passes, term = Passes(), Term(desk)
    held = Counter[int]()

    def counted(*_: object) -> bool:
        held[passes.number] += 1
        return True

    monkeypatch.setattr(streams, "event_passes", counted)
    query = EventQuery(follow=True, filters=tuple(f"service=s{n}" for n in range(filters)))
    following = [follow_events(term, query, StoppedClock(), passes.write) for _ in range(FOLLOWERS)]
    tasks = [asyncio.create_task(work) for work in (passes.count(), *following)]
    for _ in range(100):
        await asyncio.sleep(0)
    desk.events.record(
        [Event.of("service.update", "web", "web")] * EVENTS_PER_MESSAGE, build.NOW, 1
    )
    for _ in range(20_000):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert held.total() == FOLLOWERS * EVENTS_PER_MESSAGE
    assert max(held.values()) * max(1, filters) <= TOLD_AT_ONCE * max(EVENTS_PER_MESSAGE, filters)
