"""The task machine: one task, one event, one step. PURE.

`step(record, event, now)` returns the record as it is after the event and the effects to carry out.
The worker saves the record before it carries out any effect, so an effect may be repeated after a
crash but never be forgotten; each effect's outcome comes back as an event.

Rules. A process is started at most once: only the step READY -> STARTING asks for it. A task that
must not run any more gets the stop signal, and SIGKILL to everyone in its cgroup when `kill_at` has
come. The record alone holds deadlines (`Record.wake_at`), so no event can drop one. Every edge
taken is in TRANSITIONS; a step that would leave the table is a bug and raises InvalidTransition.
"""

from enum import Enum

import msgspec
from msgspec.structs import replace

from agent.tasks.record import Record
from pyswarm_core.clock import SECOND, Instant, after
from pyswarm_core.objects import Address
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
"""SIGKILL is repeated this often until the exit is seen: sending it may fail, and a process in
uninterruptible sleep takes its time.
"""


class Effect(Enum):
    """What the worker can be asked to do. The comment says which events it answers with."""

    PREPARE = "prepare"  # Prepared, PrepareFailed or PrepareAborted
    ABORT_PREPARE = "abort prepare"  # makes PREPARE answer, soon
    START = "start"  # Started or StartFailed
    LISTEN = "listen"  # Serving, once it listens; nothing if it ends before
    PUBLISH = "publish"  # nothing: its ports of mode host are forwarded to it from now on
    WITHDRAW = "withdraw"  # Withdrawn: those ports are forwarded to it no more, or a second passed
    STOP = "stop"  # the stop signal; the exit comes as Exited
    KILL = "kill"  # SIGKILL to everyone; the exit comes as Exited
    CLEAN = "clean"  # Cleaned
    FORGET = "forget"  # nothing: record and log are gone


class Event(msgspec.Struct, frozen=True):
    """Base of everything that can happen to a task."""


class Accepted(Event, frozen=True):
    """The task is new here, or was found half prepared after a restart."""


class Desired(Event, frozen=True):
    """The controller wants it in this state."""

    state: TaskState


class Unassigned(Event, frozen=True):
    """The store has forgotten the task."""


class Prepared(Event, frozen=True):
    """Everything but the running process exists."""

    image_id: str
    stop_signal: str
    pid: int
    addresses: tuple[Address, ...] = ()
    ports: tuple[PortConfig, ...] = ()


class PrepareFailed(Event, frozen=True):
    """It cannot be made; the text says why."""

    error: str


class PrepareAborted(Event, frozen=True):
    """Preparing stopped because it was asked to."""


class Started(Event, frozen=True):
    """The process runs. Told again by an agent that returns: the last one's effects may be lost."""


class Serving(Event, frozen=True):
    """It listens on every TCP port that its service publishes."""


class Withdrawn(Event, frozen=True):
    """No new connection comes to it by the host's ports."""


class StartFailed(Event, frozen=True):
    """The process could not be started; the text says why."""

    error: str


class Exited(Event, frozen=True):
    """The process ended."""

    code: int
    signal: int = 0
    oom: bool = False
    error: str = ""
    """Set when more is known than the code: nobody saw the end, or the program never ran."""


class Progress(Event, frozen=True):
    """What preparing is busy with, for people."""

    message: str


class Cleaned(Event, frozen=True):
    """Container and network are gone, the log remains."""


class Tick(Event, frozen=True):
    """Time passed; a deadline may have come."""


class Step(msgspec.Struct, frozen=True):
    """The outcome of one step. A Tick is due at `record.wake_at`."""

    record: Record
    effects: tuple[Effect, ...] = ()


def step(record: Record, event: Event, now: Instant) -> Step:
    """What becomes of `record` when `event` happens. Late and repeated events change nothing."""
    record = _within_reach(record, now)
    match event:
        case Accepted():
            return _accepted(record)
        case Desired(state=state):
            return _desired(record, state, now)
        case Unassigned():
            return _unassigned(record, now)
        case Tick():
            return _tick(record, now)
        case Progress(message=message):
            return _progress(record, message)
        case _:
            return _answer(record, event, now)


def accept(record: Record) -> Step:
    """The first step of a task that is new here. One that should not run ends at once, and there is
    nothing to clean.
    """
    if record.desired_state is _S.FROZEN:  # what was to be kept is not here
        record = replace(record, desired_state=_S.SHUTDOWN)
    if _wanted(record):
        return _accepted(record)
    return Step(replace(_accepted(record).record, clean=True))


def unsaved(taken: Step, error: str) -> Step:
    """What a step becomes when its record could not be written: nothing is begun that the next
    agent on this host would not know of.
    """
    if Effect.PREPARE in taken.effects:
        return _prepare_failed(taken.record, error)
    if Effect.START in taken.effects:
        return _start_failed(taken.record, error)
    return taken


def _within_reach(record: Record, now: Instant) -> Record:
    """The record with `kill_at` no farther away than it is ever set: the clock may have been set
    back since.
    """
    if not record.kill_at:
        return record
    farthest = after(now, max(record.spec.container_spec.stop_grace_period, KILL_AGAIN))
    return replace(record, kill_at=farthest) if record.kill_at > farthest else record


def _answer(record: Record, event: Event, now: Instant) -> Step:
    """An effect's outcome, or the end of the process."""
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
            return _serving(record) if record.starts_to_serve else Step(record)
        case Withdrawn():
            return _withdrawn(record)
        case Exited():
            return _exited(record, event)
        case Cleaned():
            return _cleaned(record)
        case _:
            raise InvalidTransition(f"unknown event {event!r} for {record.name}")


def _move(record: Record, state: TaskState, message: str, **changes: object) -> Record:
    if (record.state, state) not in TRANSITIONS:
        raise InvalidTransition(
            f"{record.name} ({record.task_id}) cannot move from {record.state.word}"
            f" to {state.word}; it is {record.detail.message!r},"
            f" desired {record.desired_state.word}"
        )
    detail = replace(record.detail, message=message)
    return replace(record, **{"state": state, "detail": detail, **changes})


def _end(record: Record, state: TaskState, message: str, **detail: object) -> Step:
    ended = _move(record, state, message, login=None)
    detail = {"serving": False, **detail}
    return Step(replace(ended, detail=replace(ended.detail, **detail)), (Effect.CLEAN,))


def _wanted(record: Record) -> bool:
    return lives(record.desired_state)


def _accepted(record: Record) -> Step:
    if record.state not in (_S.ACCEPTED, _S.PREPARING):
        return Step(record)
    if not _wanted(record):
        return _end(record, _S.SHUTDOWN, "shut down before it was prepared")
    if record.state is _S.PREPARING:
        return Step(record, (Effect.PREPARE,))
    return Step(_move(record, _S.PREPARING, "preparing"), (Effect.PREPARE,))


def _desired(record: Record, state: TaskState, now: Instant) -> Step:
    if (record.desired_state, state) not in DESIRED_TRANSITIONS:
        return Step(record)
    return _pursue(replace(record, desired_state=state), now)


def _unassigned(record: Record, now: Instant) -> Step:
    forgotten = replace(record, unassigned=True, desired_state=_S.REMOVE)
    if record.clean:
        return Step(forgotten, (Effect.FORGET,))
    return _pursue(forgotten, now)


def _pursue(record: Record, now: Instant) -> Step:
    """Do what a changed desired state asks for."""
    if record.ended:
        return Step(record)
    if _wanted(record):
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
    return Step(_move(record, _S.STARTING, "starting"), (Effect.START,))


def _stop(record: Record, now: Instant) -> Step:
    """The grace period begins. A process that is being started gets its signal once it runs."""
    if record.kill_at:
        return Step(record)
    kill_at = after(now, record.spec.container_spec.stop_grace_period)
    detail = replace(record.detail, message="stopping", serving=False)
    stopping = replace(record, kill_at=kill_at, detail=detail)
    return _ask_to_end(stopping) if record.state is _S.RUNNING else Step(stopping)


def _ask_to_end(record: Record) -> Step:
    """Send the stop signal; before, new connections go elsewhere."""
    return Step(record, (Effect.WITHDRAW if record.detail.ports else Effect.STOP,))


def _withdrawn(record: Record) -> Step:
    stopping = record.state is _S.RUNNING and record.kill_at
    return Step(record, (Effect.STOP,) if stopping else ())


def _prepared(record: Record, event: Prepared, now: Instant) -> Step:
    if record.state is not _S.PREPARING:
        return Step(record)
    ready = _move(
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
    return _pursue(ready, now)


def _prepare_failed(record: Record, error: str) -> Step:
    if record.state is not _S.PREPARING:
        return Step(record)
    if not _wanted(record):
        return _end(record, _S.SHUTDOWN, "shut down while preparing")
    return _end(record, _S.REJECTED, "could not be prepared", error=error)


def _prepare_aborted(record: Record) -> Step:
    if record.state is not _S.PREPARING:
        return Step(record)
    return _end(record, _S.SHUTDOWN, "shut down while preparing")


def _started(record: Record, now: Instant) -> Step:
    if record.state is _S.STARTING:
        message = "stopping" if record.kill_at else "started"
        record = _move(record, _S.RUNNING, message, started_at=now)
    if record.state is not _S.RUNNING:
        return Step(record)
    if _wanted(record):
        return _serve(record)
    return _ask_to_end(record) if record.kill_at else _stop(record, now)


def _serve(record: Record) -> Step:
    """A running task receives connections: at once, or as soon as it listens for them; a frozen one
    receives none, and runs on.
    """
    if record.desired_state is _S.FROZEN:
        frozen = replace(record, detail=replace(record.detail, serving=False))
        return Step(frozen, (Effect.WITHDRAW,) if record.detail.ports else ())
    if record.starts_to_serve and record.tcp_ports:
        return Step(record, (Effect.LISTEN,))
    return _serving(record)


def _serving(record: Record) -> Step:
    serving = replace(record, detail=replace(record.detail, serving=True))
    return Step(serving, (Effect.PUBLISH,) if record.detail.ports else ())


def _start_failed(record: Record, error: str) -> Step:
    if record.state is not _S.STARTING:
        return Step(record)
    if not _wanted(record):
        return _end(record, _S.SHUTDOWN, "shut down while starting", pid=0)
    return _end(record, _S.FAILED, "could not be started", error=error, pid=0)


def _exited(record: Record, event: Exited) -> Step:
    if record.state is _S.READY:
        return _end(record, _S.FAILED, "vanished", error=_why(event), exit_code=event.code, pid=0)
    if record.state not in (_S.STARTING, _S.RUNNING):
        return Step(record)
    if record.state is _S.STARTING and event.error:
        return _start_failed(record, event.error)  # seen before the start itself has answered
    if record.kill_at or not _wanted(record):
        return _end(record, _S.SHUTDOWN, "shut down", exit_code=event.code, oom=event.oom, pid=0)
    if event.code == 0 and not event.oom and not event.error:
        return _end(record, _S.COMPLETE, "finished", pid=0)
    return _end(
        record,
        _S.FAILED,
        "failed",
        error=_why(event),
        exit_code=event.code,
        oom=event.oom,
        pid=0,
    )


def _why(event: Exited) -> str:
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


def _tick(record: Record, now: Instant) -> Step:
    if now < record.wake_at:
        return Step(record)
    return Step(replace(record, kill_at=after(now, KILL_AGAIN)), (Effect.KILL,))
