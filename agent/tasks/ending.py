"""The steps by which a task ends without a stop, or after one. PURE."""

from signal import SIGKILL

from agent.tasks.events import Exited
from agent.tasks.record import Record
from agent.tasks.steps import Step, end_task, should_run
from pyswarm_core.clock import Instant
from pyswarm_core.docker.units import human_size
from pyswarm_core.states import TaskState

_S = TaskState


def prepare_failed(record: Record, error: str) -> Step:
    """Image, network or container could not be made."""
    if record.state is not _S.PREPARING:
        return Step(record)
    if not should_run(record):
        return end_task(record, _S.SHUTDOWN, "shut down while preparing")
    return end_task(record, _S.REJECTED, "could not be prepared", error=error)


def start_failed(record: Record, error: str) -> Step:
    """The process could not be started."""
    if record.state is not _S.STARTING:
        return Step(record)
    if not should_run(record):
        return end_task(record, _S.SHUTDOWN, "shut down while starting", pid=0)
    return end_task(record, _S.FAILED, "could not be started", error=error, pid=0)


def exited(record: Record, event: Exited, now: Instant) -> Step:
    """The process ended."""
    if record.state is _S.READY:
        error = _exit_error(record, event)
        return end_task(
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
        return start_failed(record, event.error)  # the exit arrived before the start's outcome
    end = {"exit_code": event.code, "oom": event.oom, "pid": 0, "ran": _ran(record, event, now)}
    if not should_run(record):
        return end_task(record, _S.SHUTDOWN, "shut down", **end)
    if record.unhealthy and not _ended_before_its_stop(record, event):
        return end_task(record, _S.FAILED, "failed", error=record.unhealthy, **end)
    stopped = "stopped on request" if record.stops else ""
    if event.code == 0 and not event.oom and not event.error:
        return end_task(record, _S.COMPLETE, stopped or "finished", **end)
    return end_task(record, _S.FAILED, stopped or "failed", error=_exit_error(record, event), **end)


def _ended_before_its_stop(record: Record, event: Exited) -> bool:
    """Whether an unhealthy task's process failed by itself: its last check failed because it died.
    A process that ends with 0 while it drains is unhealthy all the same.
    """
    if record.kill_at:
        return event.oom and event.code == 128 + SIGKILL
    return bool(event.code or event.error)


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
