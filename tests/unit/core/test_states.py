"""The table of task states, and the document that draws it."""

from itertools import pairwise

from pyswarm_core.states import (
    DESIRED_STATES,
    DESIRED_TRANSITIONS,
    TERMINAL_STATES,
    TRANSITIONS,
    TaskState,
    is_terminal,
    lives,
    reported_by_agent,
)
from tests.fixtures import task_diagram


def test_every_transition_goes_forward() -> None:
    backward = [edge for edge in TRANSITIONS if edge[1] <= edge[0]]
    assert backward == []


def test_what_has_ended_has_no_way_on() -> None:
    assert [edge for edge in TRANSITIONS if is_terminal(edge[0])] == []


def test_desired_states_go_forward_but_for_a_frozen_task_that_runs_again() -> None:
    order = DESIRED_STATES.index
    backward = [edge for edge in DESIRED_TRANSITIONS if order(edge[1]) <= order(edge[0])]
    assert backward == [(TaskState.FROZEN, TaskState.RUNNING)]
    assert {end for _, end in DESIRED_TRANSITIONS} == {*DESIRED_STATES} - {TaskState.READY}


def test_only_who_is_to_end_does_not_live() -> None:
    assert [state for state in DESIRED_STATES if not lives(state)] == [
        TaskState.SHUTDOWN,
        TaskState.REMOVE,
    ]


def test_no_agent_reports_a_desired_state() -> None:
    assert not any(map(reported_by_agent, (TaskState.FROZEN, TaskState.REMOVE, TaskState.NEW)))


def test_every_state_but_the_desired_one_can_be_reached_from_new() -> None:
    reached = {TaskState.NEW}
    for _ in TaskState:
        reached |= {end for start, end in TRANSITIONS if start in reached}
    assert set(TaskState) - reached == {TaskState.REMOVE, TaskState.FROZEN}


def test_the_way_of_a_task_that_lives_is_on_the_table() -> None:
    way = [
        TaskState.NEW, TaskState.ASSIGNED, TaskState.ACCEPTED, TaskState.PREPARING,
        TaskState.READY, TaskState.STARTING, TaskState.RUNNING, TaskState.COMPLETE,
    ]  # fmt: skip
    assert all(edge in TRANSITIONS for edge in pairwise(way))
    assert way[-1] in TERMINAL_STATES


def test_the_document_draws_these_very_tables() -> None:
    assert task_diagram.in_document() == task_diagram.diagrams(), (
        "run: python -m tests.fixtures.task_diagram"
    )
