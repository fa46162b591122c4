"""Adoption: what a restarted agent makes of records, containers and namespaces."""

import pytest

from agent.runtime.base import ContainerExit, ContainerState, FoundContainer
from agent.tasks import events
from agent.tasks.events import TaskEvent
from agent.tasks.reconcile import adopt
from agent.tasks.record import Record
from pyswarm_core.ids import TaskId
from pyswarm_core.states import TaskState
from tests.unit.agent.tasks.test_machine import record

T1 = TaskId("t1")
CREATED = FoundContainer(id="t1", state=ContainerState.CREATED, pid=5)
RUNNING = FoundContainer(id="t1", state=ContainerState.RUNNING, pid=5)
STOPPED = FoundContainer(id="t1", state=ContainerState.STOPPED, exit=ContainerExit(id="t1", code=3))


def events_of(start: Record, *found: FoundContainer) -> list[TaskEvent]:
    return [event for _, event in adopt({T1: start}, found, ()).events]


def test_a_running_container_is_adopted_and_told_to_run() -> None:
    assert events_of(record(TaskState.RUNNING), RUNNING) == [events.Started()]


def test_an_exit_during_the_agents_absence_is_not_lost() -> None:
    assert events_of(record(TaskState.RUNNING), STOPPED) == [events.Exited(3)]


def test_a_container_that_vanished_counts_as_failed_with_a_reason() -> None:
    (event,) = events_of(record(TaskState.RUNNING))
    assert isinstance(event, events.Exited)
    assert (event.code, bool(event.error)) == (137, True)


def test_a_half_prepared_task_is_prepared_anew() -> None:
    assert events_of(record(TaskState.PREPARING), CREATED) == [events.Accepted()]


def test_an_ordered_start_that_did_not_happen_is_made_up_for() -> None:
    adoption = adopt({T1: record(TaskState.STARTING)}, [CREATED], ())
    assert (adoption.unstarted, adoption.events) == ((T1,), ())


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (RUNNING, [events.Started()]),
        (STOPPED, [events.Started(), events.Exited(3)]),
    ],
)
def test_a_start_that_happened_unseen_is_not_repeated(
    found: FoundContainer, expected: list[TaskEvent]
) -> None:
    assert events_of(record(TaskState.STARTING), found) == expected
    assert adopt({T1: record(TaskState.STARTING)}, [found], ()).unstarted == ()


def test_a_program_that_turned_out_to_be_none_was_never_started() -> None:
    ended = FoundContainer(
        id="t1",
        state=ContainerState.STOPPED,
        exit=ContainerExit(id="t1", code=1, error="no such file"),
    )
    assert events_of(record(TaskState.STARTING), ended) == [events.Exited(1, error="no such file")]


def test_a_waiting_container_is_left_waiting() -> None:
    assert events_of(record(TaskState.READY), CREATED) == []


def test_what_nobody_remembers_is_stray() -> None:
    adoption = adopt({}, [RUNNING], ["t9"])
    assert (adoption.stray_containers, adoption.stray_networks) == (("t1",), ("t9",))


def test_an_ended_task_is_cleaned_once_more_and_its_container_is_no_stray() -> None:
    adoption = adopt({T1: record(TaskState.FAILED)}, [STOPPED], ["t1"])
    assert (adoption.unclean, adoption.stray_containers) == ((T1,), ())
