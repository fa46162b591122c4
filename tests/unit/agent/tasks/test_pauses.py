"""Pauses in the task machine."""

import pytest

from agent.health.verdict import CheckKind
from agent.runtime.base import ContainerState, FoundContainer
from agent.tasks import events
from agent.tasks.events import Effect
from agent.tasks.reconcile import adopt
from agent.tasks.record import Record
from pyswarm_core.clock import SECOND, after
from pyswarm_core.ids import TaskId
from pyswarm_core.specs import HealthConfig, PortConfig, PublishMode
from pyswarm_core.states import TaskState
from tests.unit.agent.tasks.test_health import BAD, CONFIG, GOOD, take, task
from tests.unit.agent.tasks.test_machine import NOW

PAUSED, GOES_ON = events.PauseChanged(paused=True), events.PauseChanged(paused=False)
LATER = after(NOW, 3600 * SECOND)
HOST_PORT = PortConfig(target_port=80, published_port=80, publish_mode=PublishMode.HOST)


def serving(**more: tuple[PortConfig, ...]) -> Record:
    return take(task(**more), GOOD, events.Serving())[0]  # type: ignore[arg-type]


def test_a_paused_task_receives_no_connections_and_is_not_checked() -> None:
    paused, effects = take(serving(), PAUSED)
    assert (paused.detail.paused, paused.detail.serving, effects) == (True, False, [])
    assert paused.detail.message == "paused"
    assert paused.due(CheckKind.HEALTH) is None
    assert take(paused, BAD, BAD, BAD) == (paused, [])


def test_a_task_that_goes_on_serves_and_is_checked_soon() -> None:
    paused, _ = take(serving(), PAUSED)
    running, effects = take(paused, GOES_ON, now=LATER)
    assert (running.detail.paused, running.detail.serving) == (False, True)
    assert (running.detail.message, effects) == ("started", [])
    due = running.due(CheckKind.HEALTH)
    assert due is not None
    assert LATER <= due.at <= after(LATER, CONFIG.interval)


def test_host_ports_are_withdrawn_and_published_again() -> None:
    paused, effects = take(serving(ports=(HOST_PORT,)), PAUSED)
    assert effects == [Effect.WITHDRAW]
    assert take(paused, events.Withdrawn()) == (paused, [])
    assert take(paused, GOES_ON)[1] == [Effect.AWAIT_LISTENING]
    assert take(paused, GOES_ON, events.Serving())[1][-1] is Effect.PUBLISH


def test_a_paused_task_does_not_begin_to_serve() -> None:
    paused, _ = take(serving(), PAUSED)
    desired = events.Desired(TaskState.RUNNING)
    for event in (desired, events.Started(), events.Serving()):
        assert not take(paused, event)[0].detail.serving


def test_a_task_that_is_still_starting_may_be_paused() -> None:
    paused, _ = take(task(), PAUSED)
    assert paused.state is TaskState.STARTING
    assert take(paused, GOOD)[0] == paused
    assert take(paused, GOES_ON, GOOD)[0].state is TaskState.RUNNING


def test_a_stop_of_a_paused_task_goes_on_as_any_other() -> None:
    paused, _ = take(serving(), PAUSED)
    stopping, effects = take(paused, events.Desired(TaskState.SHUTDOWN))
    assert Effect.STOP in effects
    thawed, effects = take(stopping, GOES_ON)
    assert (thawed.detail.paused, thawed.detail.serving, effects) == (False, False, [])
    ended, _ = take(stopping, events.Exited(143))
    assert (ended.state, ended.detail.paused) == (TaskState.SHUTDOWN, False)


def test_a_pause_of_a_task_without_a_process_changes_nothing() -> None:
    ended, _ = take(serving(), events.Exited(0))
    assert take(ended, PAUSED) == (ended, [])


def test_a_repeated_pause_changes_nothing() -> None:
    paused, _ = take(serving(), PAUSED)
    assert take(paused, PAUSED) == (paused, [])


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("found", [False, True])
def test_a_restarted_agent_finds_a_task_paused_as_its_container_is(
    before: bool, found: bool
) -> None:
    start, _ = take(serving(), events.PauseChanged(before))
    container = FoundContainer(id="t1", state=ContainerState.RUNNING, pid=5, paused=found)
    taken = adopt({TaskId("t1"): start}, [container], ()).events
    adopted, _ = take(start, *(event for _, event in taken))
    assert (adopted.detail.paused, adopted.detail.serving) == (found, not found)


def test_without_a_check_a_pause_is_the_same() -> None:
    running = task(HealthConfig(test=("NONE",)))
    paused, _ = take(running, PAUSED)
    assert not paused.detail.serving
    assert take(paused, GOES_ON)[0].detail.serving
