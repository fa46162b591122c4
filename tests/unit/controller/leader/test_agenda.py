"""What is looked at next: dirty names in order, wakes in time, in bounded slices."""

import pytest

from controller.leader import agenda
from controller.leader.agenda import Agenda
from pyswarm_core.clock import NEVER, Instant
from pyswarm_core.decision import BEGINNING, Decision, Dirty, Writes
from pyswarm_core.ids import NodeId, ServiceId
from tests.fixtures import build

A, B = ServiceId("a"), ServiceId("b")


def decided(*services: ServiceId, nodes: tuple[NodeId, ...] = ()) -> Dirty:
    dirty = Dirty()
    dirty.services.update(services)
    dirty.nodes.update(nodes)
    return dirty


def test_a_service_is_dirty_when_its_wake_comes() -> None:
    todo = Agenda()
    todo.follow_up(decided(A), Decision(wakes={A: Instant(5)}))
    todo.fall_due(Instant(4))
    assert not todo
    assert todo.next_wake() == 5
    todo.fall_due(Instant(5))
    assert list(todo.services) == [A]
    assert todo.next_wake() == NEVER


def test_a_later_decision_replaces_a_wake() -> None:
    todo = Agenda()
    todo.follow_up(decided(A), Decision(wakes={A: Instant(5)}))
    todo.follow_up(decided(A), Decision(wakes={A: Instant(9)}))
    todo.fall_due(Instant(5))
    assert not todo
    todo.fall_due(Instant(9))
    assert list(todo.services) == [A]


def test_a_decision_without_a_wake_takes_the_old_one_away() -> None:
    todo = Agenda()
    todo.follow_up(decided(A), Decision(wakes={A: Instant(5)}))
    todo.follow_up(decided(A), Decision())
    todo.fall_due(Instant(100))
    assert not todo


def test_what_was_cut_comes_again_without_the_nodes_it_was_decided_for() -> None:
    todo = Agenda()
    todo.follow_up(decided(A, nodes=(NodeId("n1"),)), Decision(again={A: BEGINNING}))
    assert list(todo.services) == [A]
    assert not todo.nodes


def test_a_turn_takes_a_bounded_slice_in_order_of_arrival(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tasks = [build.task(f"a.{slot}", node="n1") for slot in range(1, 8)]
    state = build.state(nodes=build.nodes(1), services=[build.service("a"), build.service("b")])
    state.apply(Writes(tasks=tasks))
    todo = Agenda()
    todo.add_services([A, B])
    monkeypatch.setattr(agenda, "DECISION_COST", 1)
    first = todo.take(state)
    assert (first.services, list(todo.services)) == ({A}, [B])
    assert todo.take(state).services == {B}
    assert not todo


def test_removed_tasks_make_their_services_dirty() -> None:
    task = build.task("a.1", node="n1")
    state = build.state(nodes=build.nodes(1), services=[build.service("a")])
    state.apply(Writes(tasks=[task]))
    todo = Agenda()
    todo.add_writes(Writes(removed_tasks=[task.id]), state)
    assert list(todo.services) == [A]


def test_many_replaced_wakes_do_not_pile_up() -> None:
    todo = Agenda()
    for at in range(10_000):
        todo.follow_up(decided(A), Decision(wakes={A: Instant(at + 1)}))
    assert len(todo._heap) < 100
