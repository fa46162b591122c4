"""The ring of events: bounded, replayable, honest about what it forgot."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from controller.brain.orchestrator.quarantine import Failure, Stage
from controller.identity.policy import STACK_LABEL
from controller.leader.events.history import EventHistory
from controller.leader.events.made import (
    events_of,
    in_stacks,
    quarantine_event,
    reported_events,
)
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.kinds import NODE, SERVICE, VOLUME
from pyswarm_core.limits import EVENT_PAGE, EVENTS_ALIKE, EVENTS_PER_MESSAGE
from pyswarm_core.objects import HealthState, Service, Task, UpdateStatus
from pyswarm_core.specs import NetworkAttachment
from pyswarm_core.states import TaskState, UpdateState
from pyswarm_core.views import Event
from pyswarm_core.volumes.volume import VolumeId
from tests.fixtures import build


def created(name: str) -> Event:
    return Event.of("service.create", "id", name)


async def take(log: EventHistory, count: int, *, from_start: bool = False) -> list[Event]:
    found: list[Event] = []
    async with asyncio.timeout(60):
        async for events in log.follow(position=0 if from_start else None):
            found += events
            if len(found) >= count:
                break
    return found


async def test_an_event_says_what_happened_to_what() -> None:
    log = EventHistory()
    log.record([created("web")], Instant(5), 9)
    (event,) = log.kept()
    assert (event.type, event.action, event.name, event.revision) == ("service", "create", "web", 9)


async def test_a_follower_gets_what_happens_from_now_on() -> None:
    log = EventHistory()
    log.record([created("old")], Instant(1), 1)
    following = asyncio.create_task(take(log, 2))
    await asyncio.sleep(0)
    log.record([created("a"), created("b")], Instant(2), 2)
    assert [event.name for event in await following] == ["a", "b"]


async def test_a_follower_from_the_start_gets_what_is_remembered_first() -> None:
    log = EventHistory()
    for at in (1, 2, 3):
        log.record([created(str(at))], Instant(at), at)
    assert [event.name for event in await take(log, 3, from_start=True)] == ["1", "2", "3"]


async def test_the_ring_is_bounded_and_a_slow_follower_learns_what_it_missed() -> None:
    log = EventHistory(kept=3)
    reader = log.follow(position=0)
    log.record([created("0")], Instant(1), 1)
    assert [event.name for event in await anext(reader)] == ["0"]
    for number in range(1, 8):
        log.record([created(str(number))], Instant(1), 1)
    assert len(log.kept()) == 3
    missed, *others = await anext(reader)
    assert (missed.type, missed.action, missed.count) == ("events", "missed", 4)
    assert [event.name for event in others] == ["5", "6", "7"]


async def test_a_follower_is_told_of_few_events_at_once() -> None:
    log = EventHistory()
    reader = log.follow(position=0)
    log.record([created(str(number)) for number in range(100)], Instant(1), 1)
    assert [len(await anext(reader)) for _ in range(2)] == [
        EVENTS_PER_MESSAGE,
        100 - EVENTS_PER_MESSAGE,
    ]
    assert EVENTS_PER_MESSAGE == 64


class Pages:
    """The pages of events in a store."""

    def __init__(self) -> None:
        self.stored: dict[int, bytes] = {}

    def store(self, number: int, make: Callable[[], bytes | None]) -> None:
        """Store the page at once."""
        if (page := make()) is None:
            self.stored.pop(number, None)
        else:
            self.stored[number] = page


def fill(log: EventHistory, first: int, end: int) -> None:
    for number in range(first, end):
        log.record([created(str(number))], Instant(number), number)


def test_a_new_leader_goes_on_with_the_events_of_the_last_one() -> None:
    pages = Pages()
    fill(EventHistory({}, pages.store), 1, EVENT_PAGE + 5)
    assert sorted(pages.stored) == [0, 1]
    log = EventHistory(pages.stored, pages.store)
    fill(log, EVENT_PAGE + 5, 2 * EVENT_PAGE + 5)
    again = EventHistory(pages.stored, pages.store)
    assert again.kept() == log.kept()
    assert [event.revision for event in again.kept()] == list(range(1, 2 * EVENT_PAGE + 5))
    assert again.kept()[0].at == 1


@pytest.mark.parametrize("kept", [EVENT_PAGE, EVENT_PAGE + 1, 3 * EVENT_PAGE - 1])
def test_the_store_has_the_kept_events_and_at_most_two_pages_more(kept: int) -> None:
    pages = Pages()
    log = EventHistory({}, pages.store, kept)
    for first in range(0, 7 * EVENT_PAGE, 30):
        fill(log, first, first + 30)
        assert len(pages.stored) <= -(-kept // EVENT_PAGE) + 2
        assert EventHistory(pages.stored, kept=kept).kept() == log.kept()


def test_pages_before_one_that_cannot_be_read_are_deleted() -> None:
    pages = Pages()
    fill(EventHistory({}, pages.store), 0, 3 * EVENT_PAGE + 1)
    pages.stored[1] = b"\xff"
    log = EventHistory(dict(pages.stored), pages.store)
    kept = range(2 * EVENT_PAGE, 3 * EVENT_PAGE + 1)
    assert [event.revision for event in log.kept()] == list(kept)
    assert sorted(pages.stored) == [2, 3]


def test_events_from_a_revision_on_are_found_unless_some_are_gone() -> None:
    log = EventHistory(kept=4)
    fill(log, 1, 5)
    for revision in (1, 3, 4):
        found = log.kept(log.position_of(revision))
        assert [event.revision for event in found] == list(range(revision, 5))
    assert log.kept(log.position_of(9)) == []
    fill(log, 5, 6)
    with pytest.raises(InvalidArgument, match="events of revision 2 are not kept any more"):
        log.position_of(2)
    assert [event.revision for event in log.kept(log.position_of(3))] == [3, 4, 5]


def test_users_writes_are_told_against_the_state_before_them() -> None:
    state = build.state(nodes=build.nodes(1), services=[build.service("old")])
    writes = Writes(
        objects=(build.network("net"), build.service("old"), build.service("new")),
        removed=(NODE.object_name(build.node("n1").id),),
    )
    assert [(told.kind, told.name) for told in events_of(state, writes)] == [
        ("network.create", "net"),
        ("service.update", "old"),
        ("service.create", "new"),
        ("node.remove", "n1"),
    ]


def _reported(number: int, state: TaskState, **detail: Any) -> Task:
    task = build.task(f"web.{number}", node="n1", state=state)
    return replace(task, status_at=build.NOW, detail=replace(task.detail, **detail))


@pytest.mark.parametrize(
    ("state", "detail", "actions"),
    [
        (TaskState.RUNNING, {}, [("start", "")]),
        (
            TaskState.RUNNING,
            {"health": HealthState.HEALTHY},
            [("start", ""), ("health_status: healthy", "")],
        ),
        (TaskState.STARTING, {}, []),
        (TaskState.COMPLETE, {"ran": 1}, [("die", "exit code 0")]),
        (
            TaskState.FAILED,
            {"ran": 1, "oom": True, "exit_code": 137, "error": "out of memory"},
            [("oom", ""), ("die", "exit code 137, out of memory")],
        ),
        (TaskState.REJECTED, {"error": "no such image"}, []),
    ],
)
def test_containers_have_dockers_events(
    state: TaskState, detail: dict[str, Any], actions: list[tuple[str, str]]
) -> None:
    world = build.state(nodes=build.nodes(1), services=[build.service("web")])
    told = reported_events(world, [_reported(1, state, **detail)], build.NOW)
    assert [(event.action, event.reason) for event in told] == actions
    for event in told:
        assert (event.type, event.name, event.node) == ("container", "web.1", "n1")


def test_the_events_of_a_container_have_the_id_that_ps_shows() -> None:
    state = build.state(nodes=[build.node("n1")], services=[build.container("db")])
    task = replace(build.task("db.1", node="n1", task_id="t1"), status_at=Instant(7))
    (event,) = reported_events(state, [task], Instant(7))
    assert (event.action, event.id, event.name) == ("start", "db", "db")


def test_a_container_whose_state_did_not_change_has_no_event() -> None:
    world = build.state(nodes=build.nodes(1), services=[build.service("web")])
    task = replace(_reported(1, TaskState.RUNNING), status_at=Instant(build.NOW - 1))
    assert not reported_events(world, [task], build.NOW)


def test_many_containers_of_a_service_that_start_at_once_are_one_event() -> None:
    world = build.state(nodes=build.nodes(1), services=[build.service("web")])
    tasks = [_reported(number, TaskState.RUNNING) for number in range(1, 18)]
    (event,) = reported_events(world, tasks, build.NOW)
    assert (event.action, event.count) == ("start", 17)
    assert len(reported_events(world, tasks[:EVENTS_ALIKE], build.NOW)) == EVENTS_ALIKE == 16


def _of_stack(name: str, stack: str) -> Service:
    service = build.service(name)
    return replace(service, spec=replace(service.spec, labels={STACK_LABEL: stack}))


def test_events_of_users_have_the_stack_that_the_object_gets_or_had() -> None:
    state = build.state(services=[_of_stack("old", "web"), _of_stack("gone", "db")])
    writes = Writes(
        objects=(_of_stack("old", "web2"), _of_stack("new", "web"), build.service("plain")),
        removed=(SERVICE.object_name(ServiceId("gone")),),
    )
    assert [(told.name, told.stack) for told in events_of(state, writes)] == [
        ("old", "web2"),
        ("new", "web"),
        ("plain", ""),
        ("gone", "db"),
    ]


def test_events_of_decisions_have_the_stack_of_the_service() -> None:
    state = build.state(nodes=build.nodes(1), services=[_of_stack("web", "web")])
    events = [
        Event.of("task.create", "web", "web"),
        Event.of("service.remove", "web", "web"),
        Event.of("node.down", "n1", "n1"),
        Event.of("task.state", "gone", "gone"),
    ]
    assert [told.stack for told in in_stacks(state, events)] == ["web", "web", "", ""]
    failure = Failure(Stage.SAVE, SERVICE.object_name(ServiceId("web")), "too large")
    assert quarantine_event(state, failure).stack == "web"


def test_the_start_of_an_update_or_a_rollback_is_an_event_of_its_own() -> None:
    state = build.state(services=[build.service("web")])
    web = next(iter(state.services.values()))
    status = UpdateStatus(started_at=build.NOW, to_version=2, slots=3)
    begun = replace(web, update_status=status)

    def told(service: Service) -> list[tuple[str, str]]:
        events = events_of(state, Writes(objects=(service,)))
        return [(f"{event.type}.{event.action}", event.reason) for event in events]

    assert told(begun) == [
        ("service.update", ""),
        ("service.update_started", "update to version 2, 3 slots"),
    ]
    state.apply(Writes(objects=(begun,)))
    assert told(replace(begun, spec_version=9)) == [("service.update", "")], "it goes on"
    back = replace(
        status, state=UpdateState.ROLLBACK_STARTED, started_at=Instant(build.NOW + 1), to_version=3
    )
    assert told(replace(begun, update_status=back))[1:] == [
        ("service.update_started", "rollback to version 3, 3 slots")
    ]
    done = replace(back, state=UpdateState.ROLLBACK_COMPLETED, started_at=Instant(build.NOW + 2))
    assert told(replace(begun, update_status=done)) == [("service.update", "")]


def test_networks_that_a_container_joins_and_leaves_are_events_of_the_networks() -> None:
    web = build.container("web")
    state = build.state(services=[web], networks=[build.network("app")])

    def moved(service: Service, *targets: str) -> list[Event]:
        networks = tuple(NetworkAttachment(target=target) for target in targets)
        template = replace(service.spec.task_template, networks=networks)
        changed = replace(service, spec=replace(service.spec, task_template=template))
        events = events_of(state, Writes(objects=(changed,)), "ann")
        state.apply(Writes(objects=(changed,)))
        return [event for event in events if event.type == "network"]

    (joined,) = moved(web, "bridge", "app")
    assert (joined.kind, joined.name, joined.container) == ("network.connect", "app", "web")
    assert joined.caller == "ann"
    (left,) = moved(state.services[web.id], "app")
    assert (left.kind, left.name, left.container) == ("network.disconnect", "bridge", "web")
    assert [one.kind for one in moved(state.services[web.id], "none")] == ["network.disconnect"]
    assert moved(state.services[web.id], "none") == []
    shop = build.service("shop")
    state.apply(Writes(objects=(shop,)))
    assert moved(shop, "app") == [], "its tasks are replaced"


def test_volumes_have_dockers_events() -> None:
    state = build.state(nodes=build.nodes(2))

    def told(writes: Writes) -> list[tuple[str, str]]:
        found = [(one.type, one.action) for one in events_of(state, writes)]
        state.apply(writes)
        return found

    volume = build.volume("data", "n1")
    assert told(Writes(objects=(volume,))) == [("volume", "create")], "by its first use"
    volume = replace(volume, copies=(*volume.copies, NodeId("n2")))
    assert told(Writes(objects=(volume,))) == []
    volume = replace(volume, removing=True)
    assert told(Writes(objects=(volume,))) == [("volume", "destroy")]
    assert told(Writes(objects=(replace(volume, copies=(NodeId("n2"),)),))) == []
    assert told(Writes(removed=(VOLUME.object_name(volume.id),))) == []
    assert told(Writes(objects=(build.volume("other"),))) == [("volume", "create")]
    assert told(Writes(removed=(VOLUME.object_name(VolumeId("other")),))) == [("volume", "destroy")]
