"""The steps of a running task that begins or ceases to serve, of its checks and pauses. PURE."""

from msgspec.structs import replace

from agent.health import verdict
from agent.health.verdict import Check, CheckKind
from agent.tasks.events import Checked, Effect, PauseChanged
from agent.tasks.record import Record
from agent.tasks.steps import Step, transition, with_checks
from agent.tasks.stopping import leave_backends, left_backends
from pyswarm_core.clock import Instant
from pyswarm_core.objects import HealthState
from pyswarm_core.states import TaskState

_S = TaskState

OUTPUT_SHOWN = 400
"""Characters of a check's output in messages and errors."""


def checked_or_paused(record: Record, event: Checked | PauseChanged, now: Instant) -> Step:
    """The step that one of these events causes."""
    if isinstance(event, PauseChanged):
        return _pause_changed(record, event, now)
    return _checked(record, event, now)


def _checked(record: Record, event: Checked, now: Instant) -> Step:
    """A check has a result."""
    before = record.check(event.kind)
    if before is None or not record.process_runs or record.stops or record.detail.paused:
        return Step(record)
    check = verdict.judged(before, event.result, record.started_at, counts=event.counts)
    if event.kind is CheckKind.HEALTH:
        detail = replace(record.detail, health=check.state)
        return _health_judged(replace(record, health=check, detail=detail), now)
    is_news = check.state is not before.state or not before.results
    return _readiness_judged(replace(record, readiness=check), is_news=is_news, now=now)


def _health_judged(record: Record, now: Instant) -> Step:
    assert record.health is not None
    output = _shown(record.health)
    if record.health.state is HealthState.UNHEALTHY:
        return leave_backends(replace(record, unhealthy=f"unhealthy: {output}"), now, "")
    if record.state is not _S.STARTING:
        return Step(record)
    if record.is_healthy:
        return serve(transition(record, _S.RUNNING, "started", running_at=now), now)
    failed = f"starting: health check failed: {output}"
    if len(record.health.results) > 1:  # each message is written to the store
        return Step(record)
    return Step(replace(record, detail=replace(record.detail, message=failed)))


def _readiness_judged(record: Record, *, is_news: bool, now: Instant) -> Step:
    assert record.readiness is not None
    if not is_news or record.state is not _S.RUNNING or record.desired_state is _S.FROZEN:
        return Step(record)
    if record.is_ready:
        started = replace(record.detail, message="started")
        return serve(replace(record, detail=started), now)
    served = record.detail.serving
    left = left_backends(record, now, f"not ready: {_shown(record.readiness)}")
    return Step(left, (Effect.WITHDRAW,) if served and record.detail.ports else ())


def _shown(check: Check) -> str:
    """The beginning of the last output, in one line; the exit code if there is none."""
    if not check.results:
        return "no output"
    last = check.results[-1]
    output = " ".join(last.output.split())[:OUTPUT_SHOWN]
    return output or f"exit code {last.exit_code}, no output"


def serve(record: Record, now: Instant) -> Step:
    """Have a running task serve: at once, or once it is ready and listens on its published TCP
    ports. A frozen task serves no more and keeps running; a paused one serves once it goes on.
    """
    if record.detail.paused:
        return Step(record)
    if record.desired_state is _S.FROZEN:
        frozen = left_backends(record, now, record.detail.message)
        return Step(frozen, (Effect.WITHDRAW,) if record.detail.ports else ())
    if record.readiness and not record.is_ready:
        waiting = "waiting for the readiness check"
        output = _shown(record.readiness) if record.readiness.results else waiting
        return Step(left_backends(record, now, f"not ready: {output}"))
    if record.may_begin_serving and record.tcp_ports:
        return Step(record, (Effect.AWAIT_LISTENING,))
    return begin_serving(record)


def begin_serving(record: Record) -> Step:
    """Have a task that may do so serve at once."""
    serving = replace(record, detail=replace(record.detail, serving=True))
    return Step(serving, (Effect.PUBLISH,) if record.detail.ports else ())


def _pause_changed(record: Record, event: PauseChanged, now: Instant) -> Step:
    """A paused task leaves its backends and is not checked. One that goes on is as it was before;
    its checks that became due meanwhile are made soon.
    """
    if not record.process_runs or event.paused is record.detail.paused:
        return Step(record)
    changed = replace(record, detail=replace(record.detail, paused=event.paused))
    if record.stops:
        return Step(changed)
    if event.paused:
        left = left_backends(changed, now, "paused")
        return Step(left, (Effect.WITHDRAW,) if record.detail.serving and left.detail.ports else ())
    word = "started" if record.state is _S.RUNNING else "starting: waiting for the health check"
    changed = replace(changed, detail=replace(changed.detail, message=word))
    changed = with_checks(changed, lambda check: verdict.returned(check, record.task_id, now))
    return serve(changed, now) if record.state is _S.RUNNING else Step(changed)
