"""The state machine of a task: a record and an event give the next record and effects. PURE.

`step(record, event, now)` returns the record after the event and the effects to carry out. The
worker saves the record before it carries out an effect, so a crash may repeat an effect but never
lose one. The outcome of each effect is a later event.

Invariants:
- A process is started at most once: only the step READY -> STARTING requests it.
- A task that must not run any more gets the stop signal, and at `kill_at` SIGKILL for every process
  of its cgroup.
- A task that its agent stops by itself (it is unhealthy, or a user requested it) has not served for
  DRAIN_MAX when it gets the stop signal, so that no host sends it a connection any more. Where the
  controller requests the stop, it has waited for the hosts itself.
- The record alone holds deadlines (`Record.wake_at`), so no event can drop one.
- Every transition is in TRANSITIONS. A step that would leave the table is a bug and raises
  InvalidTransition.
"""

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from agent.health import verdict
from agent.health.effective import READINESS, effective
from agent.health.verdict import Check, CheckKind
from agent.tasks import new_limits
from agent.tasks.events import (
    Accepted,
    Checked,
    Cleaned,
    Desired,
    Effect,
    Exited,
    LimitsChanged,
    LimitsRequested,
    PrepareAborted,
    Prepared,
    PrepareFailed,
    Progress,
    Serving,
    Started,
    StartFailed,
    StopRequested,
    TaskEvent,
    TimerFired,
    Unassigned,
    Withdrawn,
)
from agent.tasks.record import Record
from pyswarm_core.clock import SECOND, Instant, after
from pyswarm_core.docker.units import human_size
from pyswarm_core.limits import DRAIN_MAX
from pyswarm_core.objects import HealthState
from pyswarm_core.specs import HealthConfig
from pyswarm_core.states import (
    DESIRED_TRANSITIONS,
    TRANSITIONS,
    InvalidTransition,
    TaskState,
    lives,
)

_S = TaskState

OUTPUT_SHOWN = 400
"""Characters of a check's output in messages and errors."""

KILL_AGAIN = 2 * SECOND
"""The period at which SIGKILL is repeated until the exit is seen: sending it may fail, and a
process in uninterruptible sleep does not end at once.
"""


class Step(msgspec.Struct, frozen=True):
    """The result of one step. TimerFired is due at `record.wake_at`."""

    record: Record
    effects: tuple[Effect, ...] = ()


def step(record: Record, event: TaskEvent, now: Instant) -> Step:
    """The step that `event` causes. Late and repeated events change nothing."""
    record = _bounded(record, now)
    match event:
        case Accepted():
            return _accepted(record)
        case Desired(state=state):
            return _desired(record, state, now)
        case LimitsRequested(limits=limits):
            return Step(*new_limits.requested(record, limits))
        case LimitsChanged():
            return Step(*new_limits.changed(record, event))
        case Unassigned():
            return _unassigned(record, now)
        case TimerFired():
            return _timer_fired(record, now)
        case Progress(message=message):
            return _progress(record, message)
        case Checked():
            return _checked(record, event, now)
        case StopRequested():
            return _stop_requested(record, now)
        case _:
            return _outcome(record, event, now)


def accept(record: Record) -> Step:
    """The first step of a task that is new on this node. A task that should not run ends at once;
    nothing of it needs cleaning.
    """
    if record.desired_state is _S.FROZEN:  # the container to keep does not exist here
        record = replace(record, desired_state=_S.SHUTDOWN)
    if _should_run(record):
        return _accepted(record)
    return Step(replace(_accepted(record).record, clean=True))


def save_failed(failed: Step, error: str) -> Step:
    """The step to take instead of one whose record could not be saved. It begins nothing that a
    restarted agent would not find in a record.
    """
    if Effect.PREPARE in failed.effects:
        return _prepare_failed(failed.record, error)
    if Effect.START in failed.effects:
        return _start_failed(failed.record, error)
    return failed


def _bounded(record: Record, now: Instant) -> Record:
    """The record with deadlines no later than a step would set them now: the clock may have been
    set back since.
    """
    latest = after(now, max(record.spec.container_spec.stop_grace_period, KILL_AGAIN))
    if record.kill_at and record.kill_at > latest:
        record = replace(record, kill_at=latest)
    if record.drain_at and record.drain_at > (drained := after(now, DRAIN_MAX)):
        record = replace(record, drain_at=drained)
    return _with_checks(record, lambda check: verdict.bounded(check, now))


def _with_checks(record: Record, change: Callable[[Check], Check]) -> Record:
    health = change(record.health) if record.health else None
    readiness = change(record.readiness) if record.readiness else None
    if health is record.health and readiness is record.readiness:
        return record
    return replace(record, health=health, readiness=readiness)


def _outcome(record: Record, event: TaskEvent, now: Instant) -> Step:
    """The step for the outcome of an effect, or for the end of the process."""
    match event:
        case Prepared():
            return _prepared(record, event, now)
        case PrepareFailed(error=error):
            return _prepare_failed(record, error)
        case PrepareAborted():
            return _prepare_aborted(record)
        case Started():
            started = _started(record, now)
            return Step(started.record, (*started.effects, *new_limits.due(started.record)))
        case StartFailed(error=error):
            return _start_failed(record, error)
        case Serving():
            return _serving(record) if record.may_begin_serving else Step(record)
        case Withdrawn():
            return _withdrawn(record)
        case Exited():
            return _exited(record, event, now)
        case Cleaned():
            return _cleaned(record)
        case _:
            raise InvalidTransition(f"unknown event {event!r} for {record.name}")


def _transition(record: Record, state: TaskState, message: str, **changes: object) -> Record:
    if (record.state, state) not in TRANSITIONS:
        raise InvalidTransition(
            f"{record.name} ({record.task_id}) cannot move from {record.state.word}"
            f" to {state.word}; it is {record.detail.message!r},"
            f" desired {record.desired_state.word}"
        )
    detail = replace(record.detail, message=message)
    return replace(record, **{"state": state, "detail": detail, **changes})


def _end(record: Record, state: TaskState, message: str, **detail: object) -> Step:
    ended = _transition(record, state, message, login=None)
    detail = {"serving": False, **detail}
    return Step(replace(ended, detail=replace(ended.detail, **detail)), (Effect.CLEAN,))


def _should_run(record: Record) -> bool:
    return lives(record.desired_state)


def _accepted(record: Record) -> Step:
    if record.state not in (_S.ACCEPTED, _S.PREPARING):
        return Step(record)
    if not _should_run(record):
        return _end(record, _S.SHUTDOWN, "shut down before it was prepared")
    if record.state is _S.PREPARING:
        return Step(record, (Effect.PREPARE,))
    return Step(_transition(record, _S.PREPARING, "preparing"), (Effect.PREPARE,))


def _desired(record: Record, state: TaskState, now: Instant) -> Step:
    if (record.desired_state, state) not in DESIRED_TRANSITIONS:
        return Step(record)
    return _apply_desired(replace(record, desired_state=state), now)


def _unassigned(record: Record, now: Instant) -> Step:
    forgotten = replace(record, unassigned=True, desired_state=_S.REMOVE)
    if record.clean:
        return Step(forgotten, (Effect.FORGET,))
    return _apply_desired(forgotten, now)


def _apply_desired(record: Record, now: Instant) -> Step:
    """Act on a changed desired state."""
    if record.ended:
        return Step(record)
    if _should_run(record):
        if record.state is _S.READY:
            return _start(record)
        runs_on = record.state is _S.RUNNING and not record.stops
        return _serve(record, now) if runs_on else Step(record)
    match record.state:
        case _S.ACCEPTED | _S.READY:
            return _end(record, _S.SHUTDOWN, "shut down before it was started")
        case _S.PREPARING:
            return Step(record, (Effect.ABORT_PREPARE,))
        case _:
            return _stop(record, now)


def _start(record: Record) -> Step:
    if record.desired_state is not _S.RUNNING:
        return Step(record)
    return Step(_transition(record, _S.STARTING, "starting"), (Effect.START,))


def _stop(record: Record, now: Instant) -> Step:
    """Begin the grace period. A process that is being started gets the stop signal once it runs."""
    if record.kill_at:
        return Step(record)
    kill_at = after(now, record.spec.container_spec.stop_grace_period)
    stopping = replace(_left(record, now, "stopping"), kill_at=kill_at, drain_at=Instant(0))
    return _begin_stop(stopping) if record.process_runs else Step(stopping)


def _begin_stop(record: Record) -> Step:
    """Send the stop signal; first withdraw the host ports, if the task has any."""
    return Step(record, (Effect.WITHDRAW if record.detail.ports else Effect.STOP,))


def _withdrawn(record: Record) -> Step:
    stopping = record.process_runs and record.kill_at
    return Step(record, (Effect.STOP,) if stopping else ())


def _left(record: Record, now: Instant, message: str) -> Record:
    """The record of a task that receives no further connections."""
    left_at = now if record.detail.serving else record.left_at
    detail = replace(record.detail, message=record.unhealthy or message, serving=False)
    return replace(record, detail=detail, left_at=left_at)


def _leave(record: Record, now: Instant, message: str) -> Step:
    """Begin a stop that the controller did not request: no host may send connections to the task
    when it gets the stop signal.
    """
    left = _left(record, now, message)
    drain_at = after(left.left_at, DRAIN_MAX)
    if not left.left_at or not left.is_reachable or drain_at <= now:
        return _stop(left, now)
    effects = (Effect.WITHDRAW,) if left.detail.ports else ()
    return Step(replace(left, drain_at=drain_at), effects)


def _stop_requested(record: Record, now: Instant) -> Step:
    if not record.process_runs or record.stops or not _should_run(record):
        return Step(record)
    return _leave(record, now, "stopping on request")


def _prepared(record: Record, event: Prepared, now: Instant) -> Step:
    if record.state is not _S.PREPARING:
        return Step(record)
    ready = _transition(
        record,
        _S.READY,
        "ready",
        ready_at=now,
        login=None,
        image_id=event.image_id,
        stop_signal=event.stop_signal,
        health=_check(effective(record.spec.container_spec.healthcheck, event.healthcheck)),
        readiness=_check(effective(record.spec.container_spec.readiness, READINESS)),
    )
    detail = replace(ready.detail, pid=event.pid, addresses=event.addresses, ports=event.ports)
    ready = replace(ready, detail=detail)
    return _apply_desired(ready, now)


def _check(config: HealthConfig | None) -> Check | None:
    return Check(config=config) if config else None


def _prepare_failed(record: Record, error: str) -> Step:
    if record.state is not _S.PREPARING:
        return Step(record)
    if not _should_run(record):
        return _end(record, _S.SHUTDOWN, "shut down while preparing")
    return _end(record, _S.REJECTED, "could not be prepared", error=error)


def _prepare_aborted(record: Record) -> Step:
    if record.state is not _S.PREPARING:
        return Step(record)
    return _end(record, _S.SHUTDOWN, "shut down while preparing")


def _started(record: Record, now: Instant) -> Step:
    if record.state is _S.STARTING and not record.started_at:
        record = _process_started(record, now)
    else:
        record = _with_checks(record, lambda check: verdict.returned(check, record.task_id, now))
    if not record.process_runs:
        return Step(record)
    if record.kill_at:
        return _begin_stop(record)
    if not _should_run(record):
        return _stop(record, now)
    serves = record.state is _S.RUNNING and not record.stops
    return _serve(record, now) if serves else Step(record)


def _process_started(record: Record, now: Instant) -> Record:
    """The record of a task whose process has just been started. With a health check it is still
    starting.
    """
    record = _with_checks(record, lambda check: verdict.begun(check, now))
    if record.health is None:
        message = "stopping" if record.kill_at else "started"
        return _transition(record, _S.RUNNING, message, started_at=now, running_at=now)
    message = "stopping" if record.kill_at else "starting: waiting for the health check"
    detail = replace(record.detail, message=message, health=record.health.state)
    return replace(record, detail=detail, started_at=now)


def _checked(record: Record, event: Checked, now: Instant) -> Step:
    before = record.check(event.kind)
    if before is None or not record.process_runs or record.stops:
        return Step(record)
    check = verdict.judged(before, event.result, record.started_at)
    if event.kind is CheckKind.HEALTH:
        detail = replace(record.detail, health=check.state)
        return _health_judged(replace(record, health=check, detail=detail), now)
    is_news = check.state is not before.state or not before.results
    return _readiness_judged(replace(record, readiness=check), is_news=is_news, now=now)


def _health_judged(record: Record, now: Instant) -> Step:
    assert record.health is not None
    output = _shown(record.health.last_output)
    if record.health.state is HealthState.UNHEALTHY:
        return _leave(replace(record, unhealthy=f"unhealthy: {output}"), now, "")
    if record.state is not _S.STARTING:
        return Step(record)
    if record.is_healthy:
        return _serve(_transition(record, _S.RUNNING, "started", running_at=now), now)
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
        return _serve(replace(record, detail=started), now)
    served = record.detail.serving
    left = _left(record, now, f"not ready: {_shown(record.readiness.last_output)}")
    return Step(left, (Effect.WITHDRAW,) if served and record.detail.ports else ())


def _shown(output: str) -> str:
    """The beginning of an output, in one line."""
    return " ".join(output.split())[:OUTPUT_SHOWN] or "no output"


def _serve(record: Record, now: Instant) -> Step:
    """Have a running task serve: at once, or once it is ready and listens on its published TCP
    ports. A frozen task serves no more and keeps running.
    """
    if record.desired_state is _S.FROZEN:
        frozen = _left(record, now, record.detail.message)
        return Step(frozen, (Effect.WITHDRAW,) if record.detail.ports else ())
    if record.readiness and not record.is_ready:
        waiting = "waiting for the readiness check"
        output = _shown(record.readiness.last_output) if record.readiness.results else waiting
        return Step(_left(record, now, f"not ready: {output}"))
    if record.may_begin_serving and record.tcp_ports:
        return Step(record, (Effect.AWAIT_LISTENING,))
    return _serving(record)


def _serving(record: Record) -> Step:
    serving = replace(record, detail=replace(record.detail, serving=True))
    return Step(serving, (Effect.PUBLISH,) if record.detail.ports else ())


def _start_failed(record: Record, error: str) -> Step:
    if record.state is not _S.STARTING:
        return Step(record)
    if not _should_run(record):
        return _end(record, _S.SHUTDOWN, "shut down while starting", pid=0)
    return _end(record, _S.FAILED, "could not be started", error=error, pid=0)


def _exited(record: Record, event: Exited, now: Instant) -> Step:
    if record.state is _S.READY:
        error = _exit_error(record, event)
        return _end(
            record,
            _S.FAILED,
            "ended before it was started",
            error=error,
            exit_code=event.code,
            pid=0,
        )
    if record.state not in (_S.STARTING, _S.RUNNING):
        return Step(record)
    if not record.process_runs and event.error:
        return _start_failed(record, event.error)  # the exit arrived before the start's outcome
    end = {"exit_code": event.code, "oom": event.oom, "pid": 0, "ran": _ran(record, event, now)}
    if not _should_run(record):
        return _end(record, _S.SHUTDOWN, "shut down", **end)
    if record.unhealthy:
        return _end(record, _S.FAILED, "failed", error=record.unhealthy, **end)
    stopped = "stopped on request" if record.stops else ""
    if event.code == 0 and not event.oom and not event.error:
        return _end(record, _S.COMPLETE, stopped or "finished", **end)
    return _end(record, _S.FAILED, stopped or "failed", error=_exit_error(record, event), **end)


def _ran(record: Record, event: Exited, now: Instant) -> int:
    """How long it was running, 0 for a task that never became healthy: an update counts it as a
    failure however long its process ran. Its exit may have been seen late, and its start not at
    all.
    """
    if record.health is not None and record.state is not _S.RUNNING:
        return 0
    since = record.running_at or record.started_at
    return max(1, min(event.at or now, now) - since) if since else 1


def _exit_error(record: Record, event: Exited) -> str:
    if event.error:
        return event.error
    if event.oom:
        limit = record.spec.resources.limits.memory_bytes
        of = f" of {human_size(limit)}" if limit else ""
        return f"out of memory (exit {event.code}): the memory limit{of} was reached"
    if event.signal:
        return f"killed by signal {event.signal} (exit {event.code})"
    return f"non-zero exit ({event.code})"


def _progress(record: Record, message: str) -> Step:
    if record.state is not _S.PREPARING:
        return Step(record)
    return Step(replace(record, detail=replace(record.detail, message=message)))


def _cleaned(record: Record) -> Step:
    if not record.ended:
        return Step(record)
    clean = replace(record, clean=True)
    return Step(clean, (Effect.FORGET,) if clean.unassigned else ())


def _timer_fired(record: Record, now: Instant) -> Step:
    if now < record.wake_at:
        return Step(record)
    if not record.kill_at:
        return _stop(record, now)
    return Step(replace(record, kill_at=after(now, KILL_AGAIN)), (Effect.KILL,))
