"""The state machine of a task: a record and an event give the next record and effects. PURE.

`step(record, event, now)` returns the record after the event and the effects to carry out. The
worker saves the record before it carries out an effect, so a crash may repeat an effect but never
lose one. The outcome of each effect is a later event. `serving.py`, `stopping.py` and `ending.py`
have the steps of these parts of a task's life.

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

from msgspec.structs import replace

from agent.health import verdict
from agent.health.effective import READINESS, effective
from agent.health.verdict import Check
from agent.tasks import in_place
from agent.tasks.ending import exited, prepare_failed, start_failed
from agent.tasks.events import (
    Accepted,
    ChangedInPlace,
    Checked,
    Cleaned,
    Desired,
    Effect,
    Exited,
    InPlaceRequested,
    LoginReceived,
    NetworksJoining,
    PauseChanged,
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
from agent.tasks.serving import begin_serving, checked_or_paused, serve
from agent.tasks.steps import (
    KILL_AGAIN,
    NO_LOGIN,
    Step,
    end_task,
    should_run,
    transition,
    with_checks,
)
from agent.tasks.stopping import (
    signal_stop,
    stop,
    stop_for_good,
    stop_requested,
    timer_fired,
    withdrawn,
)
from pyswarm_core.clock import Instant, after
from pyswarm_core.limits import DRAIN_MAX
from pyswarm_core.specs import HealthConfig, RegistryLogin
from pyswarm_core.states import DESIRED_TRANSITIONS, InvalidTransition, TaskState

_S = TaskState


def step(record: Record, event: TaskEvent, now: Instant) -> Step:
    """The step that `event` causes. Late and repeated events change nothing."""
    record = _bounded(record, now)
    match event:
        case Accepted():
            return _accepted(record)
        case LoginReceived(login=login):
            return _login_received(record, login)
        case Desired(state=state, service_name=name):
            named = replace(record, service_name=name) if name else record
            return _desired(named, state, now)
        case InPlaceRequested() | NetworksJoining() | ChangedInPlace():
            return Step(*in_place.step(record, event))
        case Unassigned():
            return _unassigned(record, now)
        case TimerFired():
            return timer_fired(record, now)
        case Progress(message=message):
            return _progress(record, message)
        case Checked() | PauseChanged():
            return checked_or_paused(record, event, now)
        case StopRequested():
            return stop_requested(record, event, now)
        case _:
            return _outcome(record, event, now)


def accept(record: Record) -> Step:
    """The first step of a task that is new on this node. A task that should not run ends at once;
    nothing of it needs cleaning.
    """
    if record.desired_state is _S.FROZEN:  # the container to keep does not exist here
        record = replace(record, desired_state=_S.SHUTDOWN)
    if should_run(record):
        return _accepted(record)
    return Step(replace(_accepted(record).record, clean=True))


def save_failed(failed: Step, error: str) -> Step:
    """The step to take instead of one whose record could not be saved. It begins nothing that a
    restarted agent would not find in a record.
    """
    if Effect.PREPARE in failed.effects:
        return prepare_failed(failed.record, error)
    if Effect.START in failed.effects:
        return start_failed(failed.record, error)
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
    return with_checks(record, lambda check: verdict.bounded(check, now))


def _outcome(record: Record, event: TaskEvent, now: Instant) -> Step:
    """The step for the outcome of an effect, or for the end of the process."""
    match event:
        case Prepared():
            return _prepared(record, event, now)
        case PrepareFailed(error=error):
            return prepare_failed(record, error)
        case PrepareAborted():
            return _prepare_aborted(record)
        case Started():
            started = _started(record, now)
            return Step(started.record, (*started.effects, *in_place.due(started.record)))
        case StartFailed(error=error):
            return start_failed(record, error)
        case Serving():
            return begin_serving(record) if record.may_begin_serving else Step(record)
        case Withdrawn():
            return withdrawn(record)
        case Exited():
            return exited(record, event, now)
        case Cleaned():
            return _cleaned(record)
        case _:
            raise InvalidTransition(f"unknown event {event!r} for {record.name}")


def _accepted(record: Record) -> Step:
    if record.state not in (_S.ACCEPTED, _S.PREPARING):
        return Step(record)
    if not should_run(record):
        return end_task(record, _S.SHUTDOWN, "shut down before it was prepared")
    if record.lacks_login:
        detail = replace(record.detail, message="waiting for the registry login of its service")
        return Step(replace(record, state=_S.PREPARING, detail=detail, awaits_login=True))
    if record.state is _S.PREPARING:
        return Step(record, (Effect.PREPARE,))
    return Step(transition(record, _S.PREPARING, "preparing"), (Effect.PREPARE,))


def _login_received(record: Record, login: RegistryLogin | None) -> Step:
    """Prepare with the login. What a former agent left is removed first (Accepted follows)."""
    if not record.lacks_login:
        return Step(record)
    known = replace(record, login=login, has_login=False, awaits_login=False)
    return _accepted(known) if record.awaits_login else Step(known)


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
    if should_run(record):
        if record.state is _S.READY:
            return _start(record)
        runs_on = record.state is _S.RUNNING and not record.stops
        return serve(record, now) if runs_on else Step(record)
    match record.state:
        case _S.ACCEPTED | _S.READY:
            return end_task(record, _S.SHUTDOWN, "shut down before it was started")
        case _S.PREPARING:
            return Step(record, (Effect.ABORT_PREPARE,))
        case _:
            return stop_for_good(record, now)


def _start(record: Record) -> Step:
    if record.desired_state is not _S.RUNNING:
        return Step(record)
    return Step(transition(record, _S.STARTING, "starting"), (Effect.START,))


def _prepared(record: Record, event: Prepared, now: Instant) -> Step:
    if record.state is not _S.PREPARING:
        return Step(record)
    ready = transition(
        record,
        _S.READY,
        "ready",
        ready_at=now,
        **NO_LOGIN,
        image_id=event.image_id,
        mounted_images=event.mounted_images,
        stop_signal=event.stop_signal,
        generic_resources=event.generic_resources,
        health=_check(effective(record.spec.container_spec.healthcheck, event.healthcheck)),
        readiness=_check(effective(record.spec.container_spec.readiness, READINESS)),
    )
    detail = replace(
        ready.detail,
        pid=event.pid,
        addresses=event.addresses,
        ports=event.ports,
        command=event.command,
        image_volumes=event.image_volumes,
    )
    ready = replace(ready, detail=detail)
    return _apply_desired(ready, now)


def _check(config: HealthConfig | None) -> Check | None:
    return Check(config=config) if config else None


def _prepare_aborted(record: Record) -> Step:
    if record.state is not _S.PREPARING:
        return Step(record)
    return end_task(record, _S.SHUTDOWN, "shut down while preparing")


def _started(record: Record, now: Instant) -> Step:
    if record.state is _S.STARTING and not record.started_at:
        record = _process_started(record, now)
    else:
        record = with_checks(record, lambda check: verdict.returned(check, record.task_id, now))
    if not record.process_runs:
        return Step(record)
    if record.kill_at:
        return signal_stop(record)
    if not should_run(record):
        return stop(record, now)
    serves = record.state is _S.RUNNING and not record.stops
    return serve(record, now) if serves else Step(record)


def _process_started(record: Record, now: Instant) -> Record:
    """The record of a task whose process has just been started. With a health check it is still
    starting.
    """
    record = with_checks(record, lambda check: verdict.begun(check, now))
    if record.health is None:
        message = "stopping" if record.kill_at else "started"
        return transition(record, _S.RUNNING, message, started_at=now, running_at=now)
    message = "stopping" if record.kill_at else "starting: waiting for the health check"
    detail = replace(record.detail, message=message, health=record.health.state)
    return replace(record, detail=detail, started_at=now)


def _progress(record: Record, message: str) -> Step:
    if record.state is not _S.PREPARING:
        return Step(record)
    return Step(replace(record, detail=replace(record.detail, message=message)))


def _cleaned(record: Record) -> Step:
    if not record.ended:
        return Step(record)
    clean = replace(record, clean=True)
    return Step(clean, (Effect.FORGET,) if clean.unassigned else ())
