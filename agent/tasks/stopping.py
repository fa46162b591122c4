"""The steps by which a task stops. PURE.

A stop that the controller requests begins with the stop signal; one of the agent itself begins when
no host sends the task connections any more.
"""

from msgspec.structs import replace

from agent.tasks.events import Effect, StopRequested
from agent.tasks.record import Record
from agent.tasks.steps import KILL_AGAIN, Step
from pyswarm_core.clock import Instant, after
from pyswarm_core.limits import DRAIN_MAX
from pyswarm_core.states import TaskState


def stop(record: Record, now: Instant) -> Step:
    """Begin the grace period. A process that is being started gets the stop signal once it runs."""
    if record.kill_at:
        return Step(record)
    grace = record.stop_timeout or record.spec.container_spec.stop_grace_period
    kill_at = after(now, grace)
    stopping = replace(left_backends(record, now, "stopping"), kill_at=kill_at, drain_at=Instant(0))
    return signal_stop(stopping) if record.process_runs else Step(stopping)


def signal_stop(record: Record) -> Step:
    """Send the stop signal; first withdraw the host ports, if the task has any. A returning agent
    sends it again.
    """
    if record.detail.ports:
        return Step(replace(record, signalled=False), (Effect.WITHDRAW,))
    return Step(replace(record, signalled=True), (Effect.STOP,))


def withdrawn(record: Record) -> Step:
    """Host ports forward no new connection to the task. Two withdrawals may be under way (the task
    left its backends, then the controller stopped it): programs take a second stop signal for a
    request to end at once.
    """
    if not record.process_runs or not record.kill_at or record.signalled:
        return Step(record)
    return Step(replace(record, signalled=True), (Effect.STOP,))


def left_backends(record: Record, now: Instant, message: str) -> Record:
    """The record of a task that receives no further connections."""
    left_at = now if record.detail.serving else record.left_at
    detail = replace(record.detail, message=record.unhealthy or message, serving=False)
    return replace(record, detail=detail, left_at=left_at)


def leave_backends(record: Record, now: Instant, message: str) -> Step:
    """Begin a stop that the controller did not request: no host may send connections to the task
    when it gets the stop signal.
    """
    left = left_backends(record, now, message)
    drain_at = after(left.left_at, DRAIN_MAX)
    if not left.left_at or not left.is_reachable or drain_at <= now:
        return stop(left, now)
    effects = (Effect.WITHDRAW,) if left.detail.ports else ()
    return Step(replace(left, drain_at=drain_at), effects)


def stop_requested(record: Record, event: StopRequested, now: Instant) -> Step:
    """A user requested a stop."""
    if not record.process_runs or record.stops:
        return Step(record)
    asked = replace(
        record, stop_signal=event.signal or record.stop_signal, stop_timeout=event.timeout
    )
    return leave_backends(asked, now, "stopping on request")


def timer_fired(record: Record, now: Instant) -> Step:
    """The deadline of the stop may have passed."""
    if now < record.wake_at:
        return Step(record)
    if not record.kill_at:
        return stop(record, now)
    return Step(replace(record, kill_at=after(now, KILL_AGAIN)), (Effect.KILL,))


def stop_for_good(record: Record, now: Instant) -> Step:
    """Begin the stop that the controller requests. A container that is removed has no grace period,
    as in Docker.
    """
    stopping = stop(record, now)
    if not record.layer or record.desired_state is not TaskState.REMOVE:
        return stopping
    killed = stopping.record
    return Step(replace(killed, kill_at=min(killed.kill_at, now)), stopping.effects)
