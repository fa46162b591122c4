"""The state machine of a task: a record and an event give the next record and effects. PURE.

`step(record, event, now)` returns the record after the event and the effects to carry out. The
worker saves the record before it carries out an effect, so a crash may repeat an effect but never
lose one. The outcome of each effect is a later event.

Invariants:
- A process is started at most once: only the step READY -> STARTING requests it.
- A task that must not run any more gets the stop signal, and at `kill_at` SIGKILL for every process
  of its cgroup.
- The record alone holds deadlines (`Record.wake_at`), so no event can drop one.
- Every transition is in TRANSITIONS. A step that would leave the table is a bug and raises
  InvalidTransition.
"""

from enum import Enum

import msgspec
from msgspec.structs import replace

from agent.tasks.record import Record
from pyswarm_core.clock import SECOND, Instant, after
from pyswarm_core.objects import TaskAddress
from pyswarm_core.specs import PortConfig
from pyswarm_core.states import (
    DESIRED_TRANSITIONS,
    TRANSITIONS,
    InvalidTransition,
    TaskState,
    lives,
)

_S = TaskState

KILL_AGAIN = 2 * SECOND
"""The period at which SIGKILL is repeated until the exit is seen: sending it may fail, and a
process in uninterruptible sleep does not end at once.
"""


class Effect(Enum):
    """What the worker carries out. Each comment names the events that follow."""

    PREPARE = "prepare"  # Prepared, PrepareFailed or PrepareAborted
    ABORT_PREPARE = "abort prepare"  # ends PREPARE soon
    START = "start"  # Started or StartFailed
    AWAIT_LISTENING = "await listening"  # Serving once the task listens; none if it ends before
    PUBLISH = "publish"  # none: forwards the host ports to the task
    WITHDRAW = "withdraw"  # Withdrawn: host ports are not forwarded any more, or a second passed
    STOP = "stop"  # sends the stop signal; Exited follows the exit
    KILL = "kill"  # sends SIGKILL to every process of the cgroup; Exited follows the exit
    CLEAN = "clean"  # Cleaned
    FORGET = "forget"  # none: removes record and log


class TaskEvent(msgspec.Struct, frozen=True):
    """Base of the events of a task."""


class Accepted(TaskEvent, frozen=True):
    """The task is new on this node, or a restarted agent found it half prepared."""


class Desired(TaskEvent, frozen=True):
    """The controller sent a desired state."""

    state: TaskState


class Unassigned(TaskEvent, frozen=True):
    """The task was deleted from the store."""


class Prepared(TaskEvent, frozen=True):
    """Everything but the running process exists."""

    image_id: str
    stop_signal: str
    pid: int
    addresses: tuple[TaskAddress, ...] = ()
    ports: tuple[PortConfig, ...] = ()


class PrepareFailed(TaskEvent, frozen=True):
    """Image, network or container could not be made; the text says why."""

    error: str


class PrepareAborted(TaskEvent, frozen=True):
    """Preparing ended on request (ABORT_PREPARE)."""


class Started(TaskEvent, frozen=True):
    """The process runs. A restarted agent repeats this event: effects of the former one may be
    lost.
    """


class Serving(TaskEvent, frozen=True):
    """The task listens on every TCP port that its service publishes."""


class Withdrawn(TaskEvent, frozen=True):
    """Host ports forward no new connection to the task."""


class StartFailed(TaskEvent, frozen=True):
    """The process could not be started; the text says why."""

    error: str


class Exited(TaskEvent, frozen=True):
    """The process ended."""

    code: int
    signal: int = 0
    oom: bool = False
    error: str = ""
    """Set if the code does not explain the end: nobody saw it, or the program never ran."""


class Progress(TaskEvent, frozen=True):
    """Preparing made progress; the message describes it for users."""

    message: str


class Cleaned(TaskEvent, frozen=True):
    """Container and network are removed; the log remains."""


class TimerFired(TaskEvent, frozen=True):
    """The task's timer fired; its deadline may have passed."""


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
        case Unassigned():
            return _unassigned(record, now)
        case TimerFired():
            return _timer_fired(record, now)
        case Progress(message=message):
            return _progress(record, message)
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
    """The record with `kill_at` no later than a step would set it now: the clock may have been set
    back since.
    """
    if not record.kill_at:
        return record
    latest = after(now, max(record.spec.container_spec.stop_grace_period, KILL_AGAIN))
    return replace(record, kill_at=latest) if record.kill_at > latest else record


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
            return _started(record, now)
        case StartFailed(error=error):
            return _start_failed(record, error)
        case Serving():
            return _serving(record) if record.may_begin_serving else Step(record)
        case Withdrawn():
            return _withdrawn(record)
        case Exited():
            return _exited(record, event)
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
        return _serve(record) if record.state is _S.RUNNING else Step(record)
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
    detail = replace(record.detail, message="stopping", serving=False)
    stopping = replace(record, kill_at=kill_at, detail=detail)
    return _begin_stop(stopping) if record.state is _S.RUNNING else Step(stopping)


def _begin_stop(record: Record) -> Step:
    """Send the stop signal; first withdraw the host ports, if the task has any."""
    return Step(record, (Effect.WITHDRAW if record.detail.ports else Effect.STOP,))


def _withdrawn(record: Record) -> Step:
    stopping = record.state is _S.RUNNING and record.kill_at
    return Step(record, (Effect.STOP,) if stopping else ())


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
    )
    detail = replace(ready.detail, pid=event.pid, addresses=event.addresses, ports=event.ports)
    ready = replace(ready, detail=detail)
    return _apply_desired(ready, now)


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
    if record.state is _S.STARTING:
        message = "stopping" if record.kill_at else "started"
        record = _transition(record, _S.RUNNING, message, started_at=now)
    if record.state is not _S.RUNNING:
        return Step(record)
    if _should_run(record):
        return _serve(record)
    return _begin_stop(record) if record.kill_at else _stop(record, now)


def _serve(record: Record) -> Step:
    """Have a running task serve: at once, or once it listens on its published TCP ports. A frozen
    task serves no more and keeps running.
    """
    if record.desired_state is _S.FROZEN:
        frozen = replace(record, detail=replace(record.detail, serving=False))
        return Step(frozen, (Effect.WITHDRAW,) if record.detail.ports else ())
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


def _exited(record: Record, event: Exited) -> Step:
    if record.state is _S.READY:
        error = _exit_error(event)
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
    if record.state is _S.STARTING and event.error:
        return _start_failed(record, event.error)  # the exit arrived before the start's outcome
    if record.kill_at or not _should_run(record):
        return _end(record, _S.SHUTDOWN, "shut down", exit_code=event.code, oom=event.oom, pid=0)
    if event.code == 0 and not event.oom and not event.error:
        return _end(record, _S.COMPLETE, "finished", pid=0)
    return _end(
        record,
        _S.FAILED,
        "failed",
        error=_exit_error(event),
        exit_code=event.code,
        oom=event.oom,
        pid=0,
    )


def _exit_error(event: Exited) -> str:
    if event.error:
        return event.error
    if event.oom:
        return f"out of memory (exit {event.code}): the memory limit was reached"
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
    return Step(replace(record, kill_at=after(now, KILL_AGAIN)), (Effect.KILL,))
