"""EndpointTracker: when nodes are told of changed endpoints, and which stops wait."""

import pytest
from msgspec.structs import replace

from controller.brain.slices import finish
from controller.leader.endpoints.barrier import Finished, Outcome
from controller.leader.endpoints.tracker import EndpointTracker
from pyswarm_core.clock import MILLISECOND, NEVER, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NetworkId, NodeId, TaskId
from pyswarm_core.limits import BARRIER_MAX, ENDPOINT_PERIOD
from pyswarm_core.objects import Task, TaskStatus
from pyswarm_core.state import State
from pyswarm_core.states import NodeState, TaskState
from tests.fixtures import build
from tests.fixtures.build import NOW
from tests.unit.controller.leader.endpoints.build import (
    KEY,
    N1,
    N2,
    NET,
    WEB,
    backend,
    identified,
    ingress,
    put,
    world,
)

T1 = identified("web.1")
LATER = Instant(NOW + 10 * MILLISECOND)


def decide(
    tracker: EndpointTracker, state: State, writes: Writes, revision: int, now: Instant = NOW
) -> bool:
    tracker.deciding(writes)
    state.apply(writes)
    return finish(tracker.published(revision, now))


def report(tracker: EndpointTracker, state: State, task: Task) -> None:
    """Its agent reports the task."""
    statuses = [TaskStatus(task.id, task.state, task.detail)]
    tracker.reporting(statuses)
    tracker.observed(state.observe(task.node_id, statuses, NOW), NOW)


def stop(task: Task, desired: TaskState = TaskState.SHUTDOWN) -> Writes:
    return Writes(tasks=[replace(task, desired_state=desired)])


def begun(state: State) -> EndpointTracker:
    tracker = EndpointTracker(state, 5, NOW)
    finish(tracker.begin())
    return tracker


def acknowledged(*tasks: TaskId, since: Instant = NOW) -> list[Finished]:
    return [Finished(tasks, Outcome.ACKNOWLEDGED, since)]


@pytest.mark.parametrize("desired", [TaskState.SHUTDOWN, TaskState.FROZEN])
def test_a_backend_is_withheld_until_its_nodes_know(desired: TaskState) -> None:
    state = world(backend("web.1"), backend("web.2", "n2"))
    tracker = begun(state)
    decide(tracker, state, stop(backend("web.1"), desired), 7)
    assert T1 in tracker.barrier
    flushed = finish(tracker.flush(NOW))
    assert (flushed.networks, flushed.finished) == ((NET,), [])
    assert tracker.barrier.heard(N1, 7) == []
    assert tracker.barrier.heard(N2, 7) == acknowledged(T1)


@pytest.mark.parametrize("desired", [TaskState.SHUTDOWN, TaskState.FROZEN])
def test_the_sets_are_without_it_as_soon_as_the_store_has_the_decision(desired: TaskState) -> None:
    state = world(backend("web.1"))
    tracker = begun(state)
    before = tracker.endpoints.sequence
    decide(tracker, state, stop(backend("web.1"), desired), 7)
    assert tracker.endpoints.changed_since(before) == [KEY]


def test_a_frozen_task_that_is_to_run_again_is_back_in_the_sets_once_it_serves() -> None:
    state = world(backend("web.1", serving=False))
    tracker = begun(state)
    decide(tracker, state, stop(backend("web.1", serving=False), TaskState.FROZEN), 7)
    before = tracker.endpoints.sequence
    decide(tracker, state, stop(backend("web.1", serving=False), TaskState.RUNNING), 8)
    assert tracker.endpoints.changed_since(before) == []
    decide(tracker, state, Writes(tasks=[backend("web.1")]), 9)
    assert tracker.endpoints.changed_since(before) == [KEY]


def test_a_hundred_stops_of_one_service_are_one_wait() -> None:
    tasks = [backend(f"web.{slot}", f"n{slot % 3 + 1}") for slot in range(1, 101)]
    state = world(*tasks)
    tracker = begun(state)
    removed = replace(state.services[WEB], removing=True)
    ends = [replace(task, desired_state=TaskState.REMOVE) for task in tasks]
    decide(tracker, state, Writes(objects=(removed,), tasks=ends), 7)
    assert len(tracker.barrier) == 100
    finish(tracker.flush(NOW))
    finished = [*tracker.barrier.heard(N1, 7), *tracker.barrier.heard(N2, 7)]
    assert finished == []
    (over,) = tracker.barrier.heard(NodeId("n3"), 7)
    assert len(over.tasks) == 100


def test_who_is_no_backend_is_stopped_at_once() -> None:
    no_network = backend("plain.4", network=NetworkId("bridge"))
    starting = backend("web.2", state=TaskState.STARTING)
    failed = backend("web.3", state=TaskState.FAILED)
    quiet = backend("web.1", serving=False)
    state = world(replace(quiet, state=TaskState.STARTING), starting, failed, no_network)
    tracker = begun(state)
    report(tracker, state, quiet)
    for task in (quiet, starting, failed, no_network):
        decide(tracker, state, stop(task), 7)
    assert len(tracker.barrier) == 0


def test_a_task_that_ceased_to_serve_a_moment_ago_is_withheld_all_the_same() -> None:
    quiet = backend("web.1", serving=False)
    state = world(replace(quiet, state=TaskState.STARTING), backend("web.2", "n2"))
    tracker = begun(state)
    for task in (quiet, backend("web.1"), quiet):
        report(tracker, state, task)
    decide(tracker, state, stop(quiet), 7)
    assert T1 in tracker.barrier
    finish(tracker.flush(NOW))
    tracker.barrier.heard(N1, 7)
    assert tracker.barrier.heard(N2, 7) == acknowledged(T1)
    report(tracker, state, replace(quiet, desired_state=TaskState.SHUTDOWN))
    assert len(tracker.barrier) == 0, "its agent says that it stops it"


def test_a_new_leader_cannot_know_who_ceased_to_serve_a_moment_ago() -> None:
    quiet = backend("web.1", serving=False)
    state = world(quiet, backend("web.2", "n2", serving=False, desired=TaskState.SHUTDOWN))
    tracker = begun(state)
    assert len(tracker.barrier) == 1
    decide(tracker, state, stop(quiet), 7)
    assert len(tracker.barrier) == 2


def test_who_is_on_a_node_that_is_down_is_stopped_at_once() -> None:
    state = world(backend("web.1", "n2"))
    tracker = begun(state)
    state.apply(Writes(objects=(build.node("n2", state=NodeState.DOWN),)))
    decide(tracker, state, stop(backend("web.1", "n2")), 7)
    assert len(tracker.barrier) == 0


def test_another_word_about_a_task_that_is_to_stop_already_does_not_withhold_it_anew() -> None:
    task = backend("web.1")
    state = world(task)
    tracker = begun(state)
    decide(tracker, state, stop(task), 7)
    finish(tracker.flush(NOW))
    tracker.barrier.heard(N1, 7)
    decide(tracker, state, stop(task, TaskState.REMOVE), 9)
    assert T1 not in tracker.barrier


def test_nodes_of_another_network_are_not_waited_for() -> None:
    state = world(backend("web.1"))
    state.apply(Writes(objects=(build.service("far", spec=build.template(networks=["other"])),)))
    put(state, backend("far.2", "n2", network=NetworkId("other")))
    tracker = begun(state)
    decide(tracker, state, stop(backend("web.1")), 7)
    finish(tracker.flush(NOW))
    assert tracker.barrier.heard(N1, 7) == acknowledged(T1)


def test_a_new_term_withholds_anew_and_believes_only_its_own_sessions() -> None:
    state = world(backend("web.1", desired=TaskState.SHUTDOWN), backend("web.2", "n2"))
    tracker = begun(state)
    assert T1 in tracker.barrier
    tracker.barrier.heard(N1, 4)
    tracker.barrier.heard(N2, 5)
    assert T1 in tracker.barrier
    assert tracker.barrier.heard(N1, 5) == acknowledged(T1)


def test_a_backend_of_an_earlier_term_is_withheld_when_it_is_heard_of() -> None:
    stopping = backend("web.1", state=TaskState.STARTING, desired=TaskState.SHUTDOWN)
    state = world(stopping, backend("web.2", "n2"))
    tracker = begun(state)
    assert len(tracker.barrier) == 0
    running = replace(stopping, state=TaskState.RUNNING)
    put(state, running)
    tracker.observed([running], LATER)
    assert T1 in tracker.barrier
    tracker.barrier.heard(N2, 5)
    assert tracker.barrier.heard(N1, 5) == acknowledged(T1, since=LATER)


def test_a_withheld_task_that_ends_by_itself_is_withheld_no_more() -> None:
    state = world(backend("web.1"))
    tracker = begun(state)
    decide(tracker, state, stop(backend("web.1")), 7)
    ended = backend("web.1", state=TaskState.FAILED, desired=TaskState.SHUTDOWN)
    put(state, ended)
    tracker.observed([ended], NOW)
    assert len(tracker.barrier) == 0


def test_the_bound_counts_from_the_commit() -> None:
    state = world(backend("web.1"))
    tracker = begun(state)
    decide(tracker, state, stop(backend("web.1")), 7)
    finish(tracker.flush(LATER))
    assert tracker.next_deadline() == NOW + BARRIER_MAX
    (over,) = tracker.barrier.expire(Instant(NOW + BARRIER_MAX))
    assert (over.tasks, over.outcome) == ((T1,), Outcome.TIMED_OUT)


def test_the_first_change_is_told_at_once_and_the_next_a_period_later() -> None:
    state = world(backend("web.1"))
    tracker = begun(state)
    assert tracker.due == NEVER
    put(state, backend("web.2", "n2"))
    tracker.observed([backend("web.2", "n2")], NOW)
    assert tracker.due == NOW
    assert finish(tracker.flush(NOW)).networks == (NET,)
    put(state, backend("web.3", "n2"))
    tracker.observed([backend("web.3", "n2")], LATER)
    assert tracker.due == NOW + ENDPOINT_PERIOD


def test_reports_that_change_no_endpoint_tell_nobody() -> None:
    state = world(backend("web.1"))
    tracker = begun(state)
    starting = backend("web.2", state=TaskState.STARTING)
    plain = build.task("plain.1", node="n1", state=TaskState.RUNNING)
    put(state, starting, plain)
    tracker.observed([starting, plain], NOW)
    assert tracker.due == NEVER


def test_a_service_without_networks_costs_no_flush() -> None:
    state = world()
    tracker = begun(state)
    decide(tracker, state, Writes(objects=(build.service("more"),)), 7)
    assert tracker.due == NEVER


def test_the_mesh_s_coming_and_going_is_told() -> None:
    state = world(networks=(ingress(),))
    tracker = begun(state)
    meshed = build.service("web", spec=build.template(networks=["net", "ingress"]))
    assert decide(tracker, state, Writes(objects=(meshed,)), 7)
    assert not decide(tracker, state, Writes(objects=(meshed,)), 8)
    assert decide(tracker, state, Writes(objects=(replace(meshed, removing=True),)), 9)


def test_a_change_that_nobody_was_told_of_is_acknowledged_all_the_same() -> None:
    state = world(backend("web.1"))
    tracker = begun(state)
    before = tracker.endpoints.sequence
    decide(tracker, state, stop(backend("web.1")), 7)
    assert tracker.endpoints.sequence > before
    assert finish(tracker.flush(NOW)).networks == (NET,)
