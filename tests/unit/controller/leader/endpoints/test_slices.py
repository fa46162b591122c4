"""Endpoints are worked out in slices of counted slots; reports cause no more than a share."""

from collections.abc import Iterator
from itertools import pairwise

import pytest

from controller.brain.slices import Slices, T, finish
from controller.leader.endpoints import sets
from controller.leader.endpoints import tracker as reaching
from controller.leader.endpoints.sets import Endpoints
from controller.leader.endpoints.tracker import EndpointTracker
from pyswarm_core.clock import NEVER, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.limits import ENDPOINT_PERIOD
from pyswarm_core.objects import Task
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from tests.fixtures import build
from tests.fixtures.build import NOW
from tests.unit.controller.leader.endpoints.build import (
    KEY,
    N1,
    N2,
    NET,
    OTHER,
    WEB,
    backend,
    known,
    put,
    read,
    world,
)

SLICE, LEAST = 10, 2
REPLICAS = 95
LATER = Instant(NOW + ENDPOINT_PERIOD)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sets, reaching):
        monkeypatch.setattr(module, "ENDPOINT_SLICE", SLICE)
    monkeypatch.setattr(sets, "ENDPOINT_LEAST", LEAST)


def large() -> State:
    return world(*(backend(f"web.{slot}", f"n{slot % 2 + 1}") for slot in range(1, REPLICAS + 1)))


def steps(endpoints: Endpoints, work: Slices[T]) -> Iterator[int]:
    """The work of each slice, in slots."""
    before = endpoints.looked_at
    for _ in work:
        yield endpoints.looked_at - before
        before = endpoints.looked_at
    yield endpoints.looked_at - before


def test_a_large_service_takes_slices_of_counted_slots() -> None:
    endpoints = Endpoints(large())
    taken = list(steps(endpoints, endpoints.refresh([WEB])))
    assert max(taken) < 2 * SLICE
    assert sum(taken) == REPLICAS + 2 * LEAST
    assert list(read(endpoints.message(KEY)).slots) == list(range(1, REPLICAS + 1))


def test_many_small_services_take_slices_as_well() -> None:
    state = world()
    names = [f"s{number}" for number in range(40)]
    spec = build.template(networks=["net"])
    state.apply(Writes(objects=tuple(build.service(name, spec=spec) for name in names)))
    endpoints = Endpoints(state)
    taken = list(steps(endpoints, endpoints.refresh(state.services)))
    assert max(taken) < 2 * SLICE
    assert len(taken) >= len(names) * 2 * LEAST / (2 * SLICE)


@pytest.mark.parametrize("replicas", range(1, 2 * SLICE))
def test_a_slice_never_ends_between_a_digest_and_its_position(replicas: int) -> None:
    """A session that sends meanwhile takes both."""
    slots = range(1, replicas + 1)
    state = world(*(backend(f"web.{slot}") for slot in slots))
    endpoints = known(state)
    put(state, *(backend(f"web.{slot}", serving=False) for slot in slots))
    before = endpoints.sequence, endpoints.digest([NET])
    for _ in endpoints.refresh([WEB]):
        now = endpoints.sequence, endpoints.digest([NET])
        assert (now[0] == before[0]) == (now[1] == before[1])


def test_what_changes_between_slices_is_looked_at_again() -> None:
    state = large()
    tracker = EndpointTracker(state, 5, NOW)
    begin = tracker.begin()
    next(begin)
    ended = backend("web.1", "n2", state=TaskState.FAILED)
    put(state, ended)
    tracker.observed([ended], NOW)
    finish(begin)
    finish(tracker.flush(tracker.due))
    assert list(read(tracker.endpoints.message(KEY)).slots) == list(range(2, REPLICAS + 1))


def test_a_term_begins_in_slices_with_what_waits_for_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reaching, "SLICE_TASKS", SLICE)
    held = [backend(f"web.{slot}", desired=TaskState.SHUTDOWN) for slot in range(1, REPLICAS + 1)]
    tracker = EndpointTracker(world(*held), 5, NOW)
    counts = [len(tracker.barrier) for _ in tracker.begin()]
    grown = [after - before for before, after in pairwise(counts)]
    assert max(grown) == SLICE
    assert len(tracker.barrier) == REPLICAS


def reported(tracker: EndpointTracker, state: State, task: Task, now: Instant) -> None:
    put(state, task)
    tracker.observed([task], now)


def begun(state: State) -> EndpointTracker:
    tracker = EndpointTracker(state, 5, NOW)
    finish(tracker.begin())
    return tracker


def test_a_large_service_that_keeps_changing_is_looked_at_a_period_later_for_each_slice() -> None:
    state = large()
    tracker = begun(state)
    reported(tracker, state, backend("web.1", state=TaskState.FAILED), NOW)
    finish(tracker.flush(NOW))
    reported(tracker, state, backend("web.2", state=TaskState.FAILED), LATER)
    slices = -(-(REPLICAS + 2 * LEAST) // SLICE)
    assert tracker.due == NOW + slices * ENDPOINT_PERIOD


def test_a_flush_looks_at_one_slice_of_what_was_reported_and_the_rest_follows() -> None:
    state = world()
    spec = build.template(networks=["net"])
    names = [f"s{number}" for number in range(40)]
    state.apply(Writes(objects=tuple(build.service(name, spec=spec) for name in names)))
    tracker = begun(state)
    for name in names:
        reported(tracker, state, backend(f"{name}.1"), NOW)
    flushes = 0
    while tracker.due != NEVER:
        before = tracker.endpoints.looked_at
        finish(tracker.flush(tracker.due))
        assert tracker.endpoints.looked_at - before < 2 * SLICE
        flushes += 1
    assert flushes > len(names) * 2 * LEAST / (2 * SLICE)
    for name in names:
        assert read(tracker.endpoints.message((ServiceId(name), NET))).slots


def test_a_stop_does_not_wait_for_what_was_reported() -> None:
    state = large()
    tracker = begun(state)
    reported(tracker, state, backend("web.1", state=TaskState.FAILED), NOW)
    finish(tracker.flush(NOW))
    reported(tracker, state, backend("web.2", state=TaskState.FAILED), NOW)
    stopped = backend("web.3", "n2", desired=TaskState.SHUTDOWN)
    tracker.deciding(Writes(tasks=[stopped]))
    put(state, stopped)
    finish(tracker.published(7, NOW))
    assert tracker.due == LATER
    assert finish(tracker.flush(LATER)).networks == (NET,)
    assert stopped.id in tracker.barrier


def test_who_is_told_of_very_many_networks_is_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoints = known(world(backend("web.1", "n2")))
    assert list(endpoints.nodes_of([NET, OTHER])) == [N2]
    monkeypatch.setattr(sets, "NODES_MAX", 1)
    assert list(endpoints.nodes_of([NET, OTHER])) == [N1, N2, NodeId("n3")]
