"""The steps of a task whose service got other limits. PURE.

The container has the new limits as soon as its process runs. One change is carried out at a time:
two could finish in either order. Limits that were refused are not tried again.
"""

from msgspec.structs import replace

from agent.tasks.events import Effect, LimitsChanged, LimitsRequested
from agent.tasks.record import NewLimits, Record

Outcome = tuple[Record, tuple[Effect, ...]]
_CHANGE = (Effect.CHANGE_LIMITS,)


def due(record: Record) -> tuple[Effect, ...]:
    """The effect that is due once the process runs: the former agent's may be lost."""
    return _CHANGE if record.new_limits is not None and record.process_runs else ()


def step(record: Record, event: LimitsRequested | LimitsChanged) -> Outcome:
    """The record after the event, and the effects that follow."""
    if isinstance(event, LimitsRequested):
        return _requested(record, event.limits)
    return _changed(record, event)


def _requested(record: Record, limits: NewLimits) -> Outcome:
    """The limits of a spec version arrived, perhaps not for the first time."""
    if record.ended or limits.version <= record.limits_version:
        return record, ()
    after = replace(record, new_limits=limits)
    return after, () if record.new_limits else due(after)


def _changed(record: Record, event: LimitsChanged) -> Outcome:
    """A change was carried out, or refused."""
    if record.ended or record.new_limits is None:
        return record, ()
    new = event.limits
    if not event.error:
        resources = replace(
            record.spec.resources, limits=new.resources.limits, swap_bytes=new.resources.swap_bytes
        )
        record = replace(record, spec=replace(record.spec, resources=resources))
    if new != record.new_limits:
        return record, _CHANGE
    detail = replace(record.detail, limits_version=new.version, limits_error=event.error)
    return replace(record, new_limits=None, detail=detail), ()
