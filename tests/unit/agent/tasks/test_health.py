"""Health and readiness in the task machine."""

import pytest
from msgspec.structs import replace

from agent.health.verdict import CheckKind
from agent.tasks import events
from agent.tasks.events import Effect, TaskEvent
from agent.tasks.machine import step
from agent.tasks.record import Record
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.ids import NetworkId
from pyswarm_core.limits import DRAIN_MAX
from pyswarm_core.objects import HealthState, TaskAddress
from pyswarm_core.specs import HealthConfig, PortConfig, PublishMode
from pyswarm_core.states import TaskState
from pyswarm_core.views import CheckResult
from tests.unit.agent.tasks.test_machine import GRACE, NOW, PREPARED, record

CONFIG = HealthConfig(test=("CMD", "check"), interval=SECOND, retries=2)
NO_CHECK = HealthConfig()
OVERLAY = TaskAddress(network_id=NetworkId("net"), address="10.0.0.2")
BRIDGE = TaskAddress(network_id=NetworkId("bridge"), address="172.31.0.2")
HEALTH, READY = CheckKind.HEALTH, CheckKind.READINESS


def checked(kind: CheckKind = HEALTH, code: int = 0, output: str = "") -> events.Checked:
    result = CheckResult(started_at=NOW, duration=1, exit_code=code, output=output)
    return events.Checked(kind, result)


BAD = checked(code=1, output="  no\nanswer\n")
GOOD = checked()


def task(
    health: HealthConfig = CONFIG,
    readiness: HealthConfig = NO_CHECK,
    ports: tuple[PortConfig, ...] = (),
    address: TaskAddress = OVERLAY,
) -> Record:
    """A task whose process was just started."""
    spec = record().spec
    container = replace(spec.container_spec, healthcheck=health, readiness=readiness)
    preparing = record(
        TaskState.PREPARING, spec=replace(spec, container_spec=container), ports=ports
    )
    host_ports = tuple(port for port in ports if port.publish_mode is PublishMode.HOST)
    prepared = replace(PREPARED, addresses=(address,), ports=host_ports)
    return take(preparing, prepared, events.Started())[0]


def take(start: Record, *given: TaskEvent, now: Instant = NOW) -> tuple[Record, list[Effect]]:
    effects: list[Effect] = []
    for event in given:
        outcome = step(start, event, now)
        start = outcome.record
        effects += outcome.effects
    return start, effects


def test_a_task_with_a_health_check_is_starting_until_the_first_success() -> None:
    started = task()
    assert (started.state, started.started_at) == (TaskState.STARTING, NOW)
    assert started.detail.health is HealthState.STARTING
    assert started.detail.message == "starting: waiting for the health check"
    failing, effects = take(started, BAD)
    assert (failing.state, effects) == (TaskState.STARTING, [])
    assert failing.detail.message == "starting: health check failed: no answer"
    running, effects = take(failing, GOOD)
    assert (running.state, running.detail.message) == (TaskState.RUNNING, "started")
    assert (running.detail.health, running.detail.serving) == (HealthState.HEALTHY, True)


def test_a_task_without_a_check_runs_at_once_and_has_no_health() -> None:
    running = task(HealthConfig(test=("NONE",)))
    assert (running.state, running.detail.health) == (TaskState.RUNNING, HealthState.NONE)
    assert not running.has_checks
    assert take(running, BAD) == (running, [])


def test_the_images_check_counts_where_the_spec_has_none() -> None:
    preparing = record(TaskState.PREPARING)
    prepared = replace(PREPARED, healthcheck=CONFIG)
    starting, _ = take(preparing, prepared, events.Started())
    assert starting.state is TaskState.STARTING
    due = starting.due(HEALTH)
    assert due is not None
    assert (due.at, due.config.test, due.target.pid) == (NOW + SECOND, ("CMD", "check"), 7)


def test_a_stop_of_a_starting_task_whose_process_runs_sends_the_signal_at_once() -> None:
    stopping, effects = take(task(), events.Desired(TaskState.SHUTDOWN))
    assert (effects, stopping.wake_at) == ([Effect.STOP], NOW + GRACE)
    assert stopping.due(HEALTH) is None, "no further check"
    assert take(stopping, GOOD) == (stopping, []), "it cannot run any more"
    ended, _ = take(stopping, events.Exited(143, signal=15))
    assert ended.state is TaskState.SHUTDOWN


def test_a_stop_requested_while_the_process_starts_waits_for_the_start_only() -> None:
    stopping, effects = take(
        replace(task(), started_at=Instant(0)), events.Desired(TaskState.SHUTDOWN)
    )
    assert effects == []
    stopping, effects = take(stopping, events.Started())
    assert (stopping.state, effects) == (TaskState.STARTING, [Effect.STOP])


def test_an_unhealthy_task_that_never_served_is_stopped_at_once() -> None:
    stopping, effects = take(task(), BAD, BAD)
    assert (effects, stopping.wake_at) == ([Effect.STOP], NOW + GRACE)
    assert stopping.detail.message == "unhealthy: no answer"
    ended, _ = take(stopping, events.Exited(0))
    assert (ended.state, ended.detail.error) == (TaskState.FAILED, "unhealthy: no answer")
    assert ended.detail.health is HealthState.UNHEALTHY


def test_an_unhealthy_task_leaves_the_backends_before_its_stop_signal() -> None:
    assert DRAIN_MAX == 2 * SECOND
    failing, effects = take(task(), GOOD, BAD, BAD)
    assert (failing.detail.serving, effects) == (False, [])
    assert failing.wake_at == NOW + DRAIN_MAX
    assert take(failing, events.Started(), events.Serving(), BAD)[1] == [], "nothing brings it near"
    stopping, effects = take(failing, events.TimerFired(), now=Instant(NOW + DRAIN_MAX))
    assert (effects, stopping.wake_at) == ([Effect.STOP], NOW + DRAIN_MAX + GRACE)
    killed, effects = take(stopping, events.TimerFired(), now=stopping.wake_at)
    assert effects == [Effect.KILL]
    ended, _ = take(killed, events.Exited(137, signal=9))
    assert (ended.state, ended.detail.error) == (TaskState.FAILED, "unhealthy: no answer")


def test_an_unhealthy_task_that_no_other_host_reaches_is_stopped_at_once() -> None:
    _, effects = take(task(address=BRIDGE), GOOD, BAD, BAD)
    assert effects == [Effect.STOP]


def test_a_task_that_ends_while_it_leaves_the_backends_is_unhealthy_all_the_same() -> None:
    ended, _ = take(task(), GOOD, BAD, BAD, events.Exited(0))
    assert (ended.state, ended.detail.error) == (TaskState.FAILED, "unhealthy: no answer")


def test_the_controllers_stop_ends_the_wait_for_other_hosts() -> None:
    failing, _ = take(task(), GOOD, BAD, BAD)
    stopping, effects = take(failing, events.Desired(TaskState.SHUTDOWN))
    assert (effects, stopping.wake_at) == ([Effect.STOP], NOW + GRACE)
    ended, _ = take(stopping, events.Exited(0))
    assert ended.state is TaskState.SHUTDOWN


def test_host_ports_are_withdrawn_before_an_unhealthy_task_is_signalled() -> None:
    ports = (PortConfig(target_port=53, published_port=53, publish_mode=PublishMode.HOST),)
    listening = take(task(ports=ports), GOOD, events.Serving())[0]
    failing, effects = take(listening, BAD, BAD)
    assert effects == [Effect.WITHDRAW]
    assert take(failing, events.Withdrawn())[1] == []
    stopping, effects = take(failing, events.TimerFired(), now=failing.wake_at)
    assert effects == [Effect.WITHDRAW]
    assert take(stopping, events.Withdrawn())[1] == [Effect.STOP]


def test_two_withdrawals_under_way_cause_one_stop_signal() -> None:
    ports = (PortConfig(target_port=53, published_port=53, publish_mode=PublishMode.HOST),)
    listening = take(task(ports=ports), GOOD, events.Serving())[0]
    stopping, effects = take(listening, BAD, BAD, events.Desired(TaskState.SHUTDOWN))
    assert effects == [Effect.WITHDRAW, Effect.WITHDRAW]
    assert take(stopping, events.Withdrawn(), events.Withdrawn())[1] == [Effect.STOP]


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (events.Exited(137, signal=9, oom=True), "out of memory (exit 137): the memory limit"),
        (events.Exited(3), "non-zero exit (3)"),
        (events.Exited(137, signal=9), "killed by signal 9 (exit 137)"),
    ],
)
def test_a_process_whose_death_failed_its_last_check_ended_of_its_own_cause(
    end: events.Exited, error: str
) -> None:
    died = checked(code=137)
    draining, _ = take(task(), GOOD, BAD, died)
    assert take(draining, end)[0].detail.error.startswith(error)
    if end.oom:  # also where its stop began at once
        assert take(task(), BAD, died, end)[0].detail.error.startswith(error)


def test_a_process_that_its_agent_killed_was_unhealthy() -> None:
    stopping, _ = take(task(), BAD, BAD)
    ended, _ = take(stopping, events.Exited(137, signal=9))
    assert ended.detail.error == "unhealthy: no answer"


def test_a_check_without_output_is_shown_with_its_exit_code() -> None:
    silent = checked(code=7)
    assert take(task(), silent)[0].detail.message.endswith("failed: exit code 7, no output")
    assert take(task(), silent, silent)[0].unhealthy == "unhealthy: exit code 7, no output"
    waiting = take(task(NO_CHECK, CONFIG), checked(READY, 7))[0]
    assert waiting.detail.message == "not ready: exit code 7, no output"


def test_checks_that_the_agent_could_not_make_change_no_health() -> None:
    lacking = replace(checked(code=-1, output="too many open files"), counts=False)
    running, _ = take(task(), GOOD)
    still, effects = take(running, *[lacking] * 10)
    assert (effects, still.detail, still.stops) == ([], running.detail, False)
    assert still.health is not None
    assert (still.health.failing_streak, still.health.results[-1].exit_code) == (0, -1)
    starting, _ = take(task(), *[lacking] * 10)
    assert (starting.state, starting.stops) == (TaskState.STARTING, False)


def test_a_result_that_changes_no_state_differs_in_results_alone() -> None:
    running, _ = take(task(), GOOD)
    again, _ = take(running, GOOD)
    failing, _ = take(again, BAD)
    failed, _ = take(failing, BAD)
    assert again.differs_in_results_alone(running)
    assert failing.differs_in_results_alone(again)
    assert not failed.differs_in_results_alone(failing)
    assert not running.differs_in_results_alone(running)
    assert not replace(again, kill_at=NOW).differs_in_results_alone(running)


def test_a_returning_agent_continues_where_the_former_one_was() -> None:
    failing = take(task(), BAD)[0]
    again, effects = take(failing, events.Started())
    assert effects == []
    assert (again.state, again.started_at) == (TaskState.STARTING, NOW)
    assert again.health is not None
    assert (again.health.failing_streak, len(again.health.results)) == (1, 1)
    assert take(again, BAD)[1] == [Effect.STOP]


def test_a_clock_that_was_set_back_prolongs_no_wait() -> None:
    failing, _ = take(task(), GOOD, BAD, BAD)
    back = Instant(NOW - 3600 * SECOND)
    assert step(failing, events.Started(), back).record.wake_at == back + DRAIN_MAX


def test_readiness_decides_who_serves_and_never_stops() -> None:
    waiting = task(NO_CHECK, CONFIG)
    assert (waiting.state, waiting.detail.serving) == (TaskState.RUNNING, False)
    assert waiting.detail.message == "not ready: waiting for the readiness check"
    ready, bad = checked(READY), checked(READY, 1, "busy")
    not_ready, effects = take(waiting, bad, bad, bad, bad)
    assert (not_ready.state, effects, not_ready.stops) == (TaskState.RUNNING, [], False)
    assert not_ready.detail.message == "not ready: busy"
    serving, _ = take(not_ready, ready)
    assert (serving.detail.serving, serving.detail.message) == (True, "started")
    assert take(serving, bad)[0].detail.serving, "one failure of two"
    left, _ = take(serving, bad, bad)
    assert (left.detail.serving, left.detail.message) == (False, "not ready: busy")
    assert take(left, ready)[0].detail.serving
    assert left.detail.health is HealthState.NONE


def test_repeated_failures_report_nothing_new() -> None:
    waiting = task(NO_CHECK, CONFIG)
    outputs = [checked(READY, 1, f"try {number}") for number in range(20)]
    told = {take(waiting, *outputs[:count])[0].detail.message for count in range(20)}
    assert len(told) == 2, "each is written to the store"
    starting = {take(task(), *[BAD] * count)[0].detail.message for count in range(20)}
    assert len(starting) == 3


def test_a_task_serves_once_it_is_healthy_and_ready_and_listens() -> None:
    ports = (PortConfig(target_port=80, published_port=8080),)
    started = task(CONFIG, CONFIG, ports)
    ready, effects = take(started, checked(READY), events.Serving())
    assert (ready.state, ready.detail.serving, effects) == (TaskState.STARTING, False, [])
    running, effects = take(ready, GOOD)
    assert (running.detail.serving, effects) == (False, [Effect.AWAIT_LISTENING])
    assert take(running, events.Serving())[0].detail.serving
    early, effects = take(started, GOOD, events.Serving())
    assert (early.detail.serving, effects) == (False, [])
    assert take(early, checked(READY))[1] == [Effect.AWAIT_LISTENING]


def test_a_frozen_task_serves_for_no_check() -> None:
    serving, _ = take(task(CONFIG, CONFIG), GOOD, checked(READY))
    frozen, _ = take(serving, events.Desired(TaskState.FROZEN), checked(READY), GOOD)
    assert not frozen.detail.serving
    assert take(frozen, events.Desired(TaskState.RUNNING))[0].detail.serving


def test_a_task_that_just_became_not_ready_has_left_before_its_agent_stops_it() -> None:
    bad = checked(READY, 1, "busy")
    left, _ = take(task(CONFIG, CONFIG), GOOD, checked(READY), bad, bad)
    soon = Instant(NOW + SECOND)
    failing, effects = take(left, BAD, BAD, now=soon)
    assert (effects, failing.wake_at) == ([], NOW + DRAIN_MAX)
    late = Instant(NOW + 3 * SECOND)
    assert take(left, BAD, BAD, now=late)[1] == [Effect.STOP]


def test_a_requested_stop_leaves_the_backends_and_ends_as_the_process_does() -> None:
    serving, _ = take(task(), GOOD)
    leaving, effects = take(serving, events.StopRequested())
    assert (effects, leaving.wake_at) == ([], NOW + DRAIN_MAX)
    assert (leaving.detail.serving, leaving.detail.message) == (False, "stopping on request")
    assert take(leaving, events.StopRequested()) == (leaving, []), "once"
    stopping, effects = take(leaving, events.TimerFired(), now=leaving.wake_at)
    assert effects == [Effect.STOP]
    assert take(stopping, events.Started())[1] == [Effect.STOP], "repeated by another agent"
    ended, _ = take(stopping, events.Exited(0))
    assert (ended.state, ended.detail.message) == (TaskState.COMPLETE, "stopped on request")
    ended, _ = take(stopping, events.Exited(143, signal=15))
    assert (ended.state, ended.detail.error) == (
        TaskState.FAILED,
        "killed by signal 15 (exit 143)",
    )


def test_a_requested_stop_of_a_starting_task_is_immediate() -> None:
    stopping, effects = take(task(), events.StopRequested())
    assert (effects, stopping.wake_at) == ([Effect.STOP], NOW + GRACE)
    assert take(record(TaskState.PREPARING), events.StopRequested())[1] == []


def test_a_requested_stop_may_have_a_signal_and_a_grace_period_of_its_own() -> None:
    stopping, _ = take(task(), events.StopRequested("SIGQUIT", 3 * SECOND))
    assert (stopping.stop_signal, stopping.kill_at) == ("SIGQUIT", NOW + 3 * SECOND)


@pytest.mark.parametrize(
    ("end", "ran"),
    [
        (events.Exited(1), 5 * SECOND),
        (events.Exited(1, at=Instant(NOW + SECOND)), SECOND),
        (events.Exited(1, at=Instant(NOW + 9 * SECOND)), 5 * SECOND),
        (events.Exited(1, at=Instant(1)), 1),
    ],
    ids=["unknown", "seen late", "after now", "before its start"],
)
def test_how_long_it_ran_is_reported_at_its_end(end: events.Exited, ran: int) -> None:
    running, _ = take(record(TaskState.STARTING), events.Started())
    assert running.detail.ran == 0
    ended, _ = take(running, end, now=Instant(NOW + 5 * SECOND))
    assert ended.detail.ran == ran


def test_what_never_ran_did_not_run() -> None:
    assert take(record(TaskState.PREPARING), events.PrepareFailed("e"))[0].detail.ran == 0
    assert take(record(TaskState.STARTING), events.StartFailed("e"))[0].detail.ran == 0
    starting = record(TaskState.STARTING)
    assert take(starting, events.Exited(1, error="no program"))[0].detail.ran == 0
    assert take(starting, events.Exited(1))[0].detail.ran == 1, "its exit overtook its start"


def test_a_task_ran_from_when_it_was_healthy() -> None:
    """Otherwise an update would take a version that is unhealthy after a minute for a good one."""
    late, end = Instant(NOW + 90 * SECOND), Instant(NOW + 91 * SECOND)
    never, _ = take(task(), BAD, BAD, now=late)
    ended, _ = take(never, events.TimerFired(), events.Exited(137), now=end)
    assert (ended.state, ended.detail.ran) == (TaskState.FAILED, 0)
    slow, _ = take(task(), GOOD, now=late)
    assert take(slow, events.Exited(1), now=end)[0].detail.ran == SECOND
