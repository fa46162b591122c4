"""The task machine: events in, record and effects out."""

import hypothesis
import hypothesis.strategies as st
import pytest
from msgspec.structs import replace

from agent.health.verdict import CheckKind
from agent.tasks import events, machine
from agent.tasks.events import Effect, TaskEvent
from agent.tasks.machine import accept, save_failed, step
from agent.tasks.record import Record
from agent.tasks.steps import Step
from pyswarm_core.clock import NEVER, SECOND, Instant
from pyswarm_core.ids import NodeId, ServiceId, TaskId
from pyswarm_core.objects import TaskDetail
from pyswarm_core.specs import (
    ContainerSpec,
    HealthConfig,
    PortConfig,
    Protocol,
    PublishMode,
    TaskSpec,
)
from pyswarm_core.states import TaskState
from pyswarm_core.views import CheckResult

NOW = Instant(1_000 * SECOND)
GRACE = 10 * SECOND
PREPARED = events.Prepared(image_id="i", stop_signal="SIGTERM", pid=7)
CHECKED = [
    events.Checked(kind, CheckResult(started_at=NOW, duration=0, exit_code=code))
    for kind in CheckKind
    for code in (0, 1)
]
ENDED = [TaskState.COMPLETE, TaskState.SHUTDOWN, TaskState.FAILED, TaskState.REJECTED]


def record(state: TaskState = TaskState.ACCEPTED, **changes: object) -> Record:
    spec = TaskSpec(container_spec=ContainerSpec(image="web", stop_grace_period=GRACE))
    new = Record(
        task_id=TaskId("t1"),
        service_id=ServiceId("s1"),
        service_name="web",
        slot=1,
        node_id=NodeId("n1"),
        spec=spec,
        state=state,
    )
    return replace(new, **changes)


def run(start: Record, *events: TaskEvent) -> tuple[Record, list[Effect]]:
    effects: list[Effect] = []
    for event in events:
        outcome = step(start, event, NOW)
        start = outcome.record
        effects += outcome.effects
    return start, effects


def test_a_task_goes_from_accepted_to_running_in_three_effects() -> None:
    end, effects = run(record(), events.Accepted(), PREPARED, events.Started())
    assert end.state is TaskState.RUNNING
    assert (end.detail.pid, end.detail.message) == (7, "started")
    assert effects == [Effect.PREPARE, Effect.START]


def test_a_task_without_published_tcp_ports_serves_as_soon_as_it_runs() -> None:
    udp = (PortConfig(target_port=53, protocol=Protocol.UDP),)
    for ports in ((), udp):
        end, effects = run(record(TaskState.STARTING, ports=ports), events.Started())
        assert (end.detail.serving, effects) == (True, [])


def test_a_task_with_published_tcp_ports_serves_once_it_listens() -> None:
    ports = (PortConfig(target_port=80, published_port=8080),)
    started, effects = run(record(TaskState.STARTING, ports=ports), events.Started())
    assert (started.detail.serving, effects) == (False, [Effect.AWAIT_LISTENING])
    assert run(started, events.Started()) == (started, [Effect.AWAIT_LISTENING]), (
        "found by another agent"
    )
    serving, effects = run(started, events.Serving())
    assert (serving.detail.serving, effects) == (True, [])
    assert run(serving, events.Started()) == (serving, [])


def with_host_port(state: TaskState, **changes: object) -> Record:
    """A task that holds a port of its host."""
    port = PortConfig(
        target_port=53, published_port=53, protocol=Protocol.UDP, publish_mode=PublishMode.HOST
    )
    return replace(record(state, ports=(port,), **changes), detail=TaskDetail(ports=(port,)))


def test_host_ports_are_published_once_the_task_serves_and_again_by_a_returning_agent() -> None:
    serving, effects = run(with_host_port(TaskState.STARTING), events.Started())
    assert (serving.detail.serving, effects) == (True, [Effect.PUBLISH])
    assert run(serving, events.Started()) == (serving, [Effect.PUBLISH])
    listening = replace(serving, ports=(replace(serving.ports[0], protocol=Protocol.TCP),))
    listening = replace(listening, detail=replace(serving.detail, serving=False))
    assert run(listening, events.Started())[1] == [Effect.AWAIT_LISTENING]
    assert run(listening, events.Serving())[1] == [Effect.PUBLISH]


def test_host_ports_are_withdrawn_before_the_stop_signal() -> None:
    running = with_host_port(TaskState.RUNNING)
    stopping, effects = run(running, events.Desired(TaskState.SHUTDOWN))
    assert (stopping.wake_at, effects) == (NOW + GRACE, [Effect.WITHDRAW])
    signalled, effects = run(stopping, events.Withdrawn())
    assert effects == [Effect.STOP]
    assert run(signalled, events.Started(), events.Withdrawn())[1] == [Effect.WITHDRAW, Effect.STOP]
    ended, effects = run(stopping, events.Exited(0), events.Withdrawn())
    assert (ended.state, effects) == (TaskState.SHUTDOWN, [Effect.CLEAN])
    assert run(running, events.Withdrawn()) == (running, []), "nobody asked it to stop"


def test_a_new_task_is_prepared_unless_it_should_not_run() -> None:
    first = accept(record())
    assert (first.record.state, first.effects) == (TaskState.PREPARING, (Effect.PREPARE,))
    ended = accept(record(desired_state=TaskState.SHUTDOWN))
    assert (ended.record.state, ended.record.clean, ended.effects) == (TaskState.SHUTDOWN, True, ())


def test_what_a_returning_agent_would_not_know_of_is_not_begun() -> None:
    rejected = save_failed(accept(record()), "disk full")
    assert (rejected.record.state, rejected.record.detail.error) == (
        TaskState.REJECTED,
        "disk full",
    )
    failed = save_failed(step(record(TaskState.PREPARING), PREPARED, NOW), "disk full")
    assert (failed.record.state, failed.effects) == (TaskState.FAILED, (Effect.CLEAN,))
    stopping = step(record(TaskState.RUNNING), events.Desired(TaskState.SHUTDOWN), NOW)
    assert save_failed(stopping, "disk full") is stopping, "a signal may be sent twice"
    assert save_failed(Step(record()), "disk full") == Step(record())


@pytest.mark.parametrize(
    "event", [events.Desired(TaskState.SHUTDOWN), events.Exited(0), events.Exited(1)]
)
def test_a_task_that_is_stopped_or_ends_serves_no_more(event: TaskEvent) -> None:
    serving, _ = run(record(TaskState.STARTING), events.Started())
    end, _ = run(serving, event, events.Serving())
    assert not end.detail.serving


def test_a_task_that_is_to_be_ready_waits_before_it_starts() -> None:
    waiting, effects = run(record(desired_state=TaskState.READY), events.Accepted(), PREPARED)
    assert (waiting.state, effects) == (TaskState.READY, [Effect.PREPARE])
    started, effects = run(waiting, events.Desired(TaskState.RUNNING))
    assert (started.state, effects) == (TaskState.STARTING, [Effect.START])


def test_shutdown_sends_the_stop_signal_and_sets_the_deadline() -> None:
    outcome = step(record(TaskState.RUNNING), events.Desired(TaskState.SHUTDOWN), NOW)
    assert outcome.effects == (Effect.STOP,)
    assert outcome.record.wake_at == NOW + GRACE
    assert outcome.record.state is TaskState.RUNNING


def test_the_deadline_kills_and_kills_again_until_the_exit_is_seen() -> None:
    stopping = record(TaskState.RUNNING, desired_state=TaskState.SHUTDOWN, kill_at=NOW)
    first = step(stopping, events.TimerFired(), NOW)
    assert first.effects == (Effect.KILL,)
    again = step(first.record, events.TimerFired(), first.record.wake_at)
    assert again.effects == (Effect.KILL,)
    end = step(again.record, events.Exited(137, signal=9), NOW)
    assert (end.record.state, end.effects) == (TaskState.SHUTDOWN, (Effect.CLEAN,))


def test_an_early_timer_changes_nothing() -> None:
    stopping = record(TaskState.RUNNING, desired_state=TaskState.SHUTDOWN, kill_at=NOW + 1)
    assert step(stopping, events.TimerFired(), NOW).effects == ()
    assert step(stopping, events.TimerFired(), NOW).record.wake_at == NOW + 1


def test_a_returning_agent_repeats_the_stop_signal_that_may_be_lost() -> None:
    stopping = record(TaskState.RUNNING, desired_state=TaskState.SHUTDOWN, kill_at=NOW + 1)
    assert run(stopping, events.Started())[1] == [Effect.STOP]


def test_a_task_found_to_run_that_should_not_gets_a_deadline() -> None:
    found = record(TaskState.RUNNING, desired_state=TaskState.SHUTDOWN)
    outcome = step(found, events.Started(), NOW)
    assert (outcome.effects, outcome.record.wake_at) == ((Effect.STOP,), NOW + GRACE)


@pytest.mark.parametrize(
    ("exit_", "state", "error"),
    [
        (events.Exited(0), TaskState.COMPLETE, ""),
        (events.Exited(3), TaskState.FAILED, "non-zero exit (3)"),
        (events.Exited(137, signal=9), TaskState.FAILED, "killed by signal 9 (exit 137)"),
        (
            events.Exited(137, signal=9, oom=True),
            TaskState.FAILED,
            "out of memory (exit 137): the memory limit was reached",
        ),
    ],
)
def test_an_exit_nobody_asked_for_says_how_it_came(
    exit_: events.Exited, state: TaskState, error: str
) -> None:
    end, effects = run(record(TaskState.RUNNING), exit_)
    assert (end.state, end.detail.error, effects) == (state, error, [Effect.CLEAN])


def test_a_failed_preparation_rejects_the_task_with_its_error() -> None:
    end, effects = run(record(TaskState.PREPARING), events.PrepareFailed("no such image"))
    assert (end.state, end.detail.error) == (TaskState.REJECTED, "no such image")
    assert effects == [Effect.CLEAN]


def test_shutdown_while_preparing_aborts_and_then_ends() -> None:
    end, effects = run(
        record(TaskState.PREPARING),
        events.Desired(TaskState.SHUTDOWN),
        events.PrepareAborted(),
    )
    assert end.state is TaskState.SHUTDOWN
    assert effects == [Effect.ABORT_PREPARE, Effect.CLEAN]


def test_shutdown_while_starting_stops_once_the_start_has_answered() -> None:
    end, effects = run(
        record(TaskState.STARTING), events.Desired(TaskState.SHUTDOWN), events.Started()
    )
    assert (end.state, effects) == (TaskState.RUNNING, [Effect.STOP])


def test_an_exit_that_overtakes_the_start_is_believed() -> None:
    end, effects = run(record(TaskState.STARTING), events.Exited(1), events.Started())
    assert (end.state, effects) == (TaskState.FAILED, [Effect.CLEAN])


def test_a_program_that_is_none_is_told_as_that_though_its_exit_overtakes_the_start() -> None:
    reason, starting = "exec /x: no such file", record(TaskState.STARTING)
    failure, exit_ = events.StartFailed(reason), events.Exited(1, error=reason)
    assert run(starting, exit_, failure) == run(starting, failure, exit_)
    assert run(starting, exit_)[0].detail.error == reason


def test_a_forgotten_task_is_stopped_cleaned_and_then_forgotten() -> None:
    end, effects = run(
        record(TaskState.RUNNING), events.Unassigned(), events.Exited(0), events.Cleaned()
    )
    assert end.clean
    assert effects == [Effect.STOP, Effect.CLEAN, Effect.FORGET]


def test_a_clean_task_is_forgotten_at_once() -> None:
    ended = record(TaskState.COMPLETE, clean=True)
    assert step(ended, events.Unassigned(), NOW).effects == (Effect.FORGET,)


def test_desired_state_never_goes_back() -> None:
    stopping = record(TaskState.RUNNING, desired_state=TaskState.SHUTDOWN, kill_at=NOW)
    assert step(stopping, events.Desired(TaskState.RUNNING), NOW).record == stopping


_events = st.one_of(
    st.sampled_from(
        [
            events.Accepted(),
            events.Unassigned(),
            events.LoginReceived(None),
            PREPARED,
            events.PrepareFailed("e"),
            events.PrepareAborted(),
            events.Started(),
            events.Serving(),
            *CHECKED,
            events.StopRequested(),
            events.Withdrawn(),
            events.StartFailed("e"),
            events.Exited(0),
            events.Exited(1),
            events.Progress("p"),
            events.Cleaned(),
            events.TimerFired(),
        ]
    ),
    st.sampled_from([TaskState.READY, TaskState.RUNNING, TaskState.SHUTDOWN, TaskState.REMOVE]).map(
        events.Desired
    ),
)


@hypothesis.given(st.booleans(), st.lists(_events, max_size=30))
def test_prop_no_order_of_events_leaves_the_table_or_starts_twice(
    checked: bool, given: list[TaskEvent]
) -> None:
    now, current, starts = NOW, record(), 0
    if checked:
        check = HealthConfig(test=("CMD", "x"), interval=SECOND, retries=1)
        container = replace(current.spec.container_spec, healthcheck=check, readiness=check)
        current = replace(current, spec=replace(current.spec, container_spec=container))
    for event in given:
        now = Instant(now + SECOND)
        outcome = step(current, event, now)
        assert outcome.record.state >= current.state
        assert outcome.record.desired_state >= current.desired_state
        starts += outcome.effects.count(Effect.START)
        current = outcome.record
    assert starts <= 1, "a process may be started once"


@hypothesis.given(st.sampled_from(ENDED), _events)
def test_prop_what_has_ended_starts_nothing(state: TaskState, event: TaskEvent) -> None:
    outcome = step(record(state), event, NOW)
    assert outcome.record.state is state
    assert outcome.record.wake_at == NEVER
    assert set(outcome.effects) <= {Effect.CLEAN, Effect.FORGET}


FREEZE, THAW = events.Desired(TaskState.FROZEN), events.Desired(TaskState.RUNNING)


def test_a_frozen_task_runs_on_and_does_not_serve_until_it_is_to_run_again() -> None:
    serving, _ = run(record(TaskState.STARTING), events.Started())
    frozen, effects = run(serving, FREEZE)
    assert (frozen.state, frozen.detail.serving, effects) == (TaskState.RUNNING, False, [])
    assert (frozen.may_begin_serving, frozen.kill_at, frozen.wake_at) == (False, 0, NEVER)
    thawed, effects = run(frozen, THAW)
    assert (thawed.detail.serving, effects) == (True, [])


def test_a_frozen_task_that_listens_does_not_serve_for_it() -> None:
    ports = (PortConfig(target_port=80, published_port=8080),)
    serving, _ = run(record(TaskState.STARTING, ports=ports), events.Started(), events.Serving())
    frozen, effects = run(serving, FREEZE, events.Serving(), events.Started())
    assert (frozen.detail.serving, effects) == (False, [])
    thawed, effects = run(frozen, THAW, events.Serving())
    assert (thawed.detail.serving, effects) == (True, [Effect.AWAIT_LISTENING])


def test_a_frozen_task_is_told_to_stop_as_any_other() -> None:
    serving, _ = run(record(TaskState.STARTING), events.Started())
    stopping, effects = run(serving, FREEZE, events.Desired(TaskState.SHUTDOWN), FREEZE)
    assert effects == [Effect.STOP]
    assert (stopping.desired_state, stopping.kill_at) == (TaskState.SHUTDOWN, NOW + GRACE)


@pytest.mark.parametrize(
    ("code", "state"), [(0, TaskState.COMPLETE), (1, TaskState.FAILED)], ids=["zero", "one"]
)
def test_a_frozen_task_may_end_by_itself(code: int, state: TaskState) -> None:
    serving, _ = run(record(TaskState.STARTING), events.Started())
    ended, _ = run(serving, FREEZE, events.Exited(code=code))
    assert ended.state is state


def test_the_ports_of_a_frozen_task_are_forwarded_to_it_no_more() -> None:
    ports = (PortConfig(target_port=80, published_port=8080),)
    prepared = replace(PREPARED, ports=ports)
    start = record(TaskState.PREPARING, ports=ports)
    serving, _ = run(start, prepared, events.Started(), events.Serving())
    frozen, effects = run(serving, FREEZE, events.Withdrawn())
    assert (frozen.state, frozen.detail.serving, effects) == (
        TaskState.RUNNING,
        False,
        [Effect.WITHDRAW],
    )
    assert run(frozen, THAW, events.Serving())[1] == [Effect.AWAIT_LISTENING, Effect.PUBLISH]


def test_a_frozen_task_that_is_not_here_has_ended() -> None:
    outcome = machine.accept(record(desired_state=TaskState.FROZEN))
    assert (outcome.record.state, outcome.effects) == (TaskState.SHUTDOWN, ())


def test_the_volumes_that_the_image_made_are_in_the_details() -> None:
    state = TaskState.PREPARING
    found = step(record(state), replace(PREPARED, image_volumes="/data"), NOW).record
    assert found.detail.image_volumes == "/data"
