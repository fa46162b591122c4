"""The steps of a task whose service got other limits, or whose container other networks. PURE.

The container has the new ones as soon as its process runs. One change is carried out at a time: two
could finish in either order. What was refused is not tried again. The record has the interfaces of
a change before the kernel has them, so a restarted agent finds all.
"""

from msgspec.structs import replace

from agent.tasks.events import Effect, LimitsChanged, LimitsRequested, NetworksJoining
from agent.tasks.record import Interface, NewLimits, Record
from pyswarm_core.objects import TaskAddress

Outcome = tuple[Record, tuple[Effect, ...]]
_CHANGE = (Effect.CHANGE_LIMITS,)


def due(record: Record) -> tuple[Effect, ...]:
    """The effect that is due once the process runs: the former agent's may be lost."""
    return _CHANGE if record.new_limits is not None and record.process_runs else ()


def step(record: Record, event: LimitsRequested | NetworksJoining | LimitsChanged) -> Outcome:
    """The record after the event, and the effects that follow."""
    match event:
        case LimitsRequested(limits=limits):
            return _requested(record, limits)
        case NetworksJoining(interfaces=interfaces):
            joins = not record.ended and record.new_limits is not None
            return replace(record, interfaces=interfaces) if joins else record, ()
        case LimitsChanged():
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
    if event.error:
        record = replace(record, interfaces=held_before(record))
    else:
        record = _with(record, new, event.interfaces)
    if new != record.new_limits:
        return record, _CHANGE
    detail = replace(
        record.detail,
        limits_version=new.version,
        limits_error=event.error,
        networks_refused=event.networks_refused,
    )
    return replace(record, new_limits=None, detail=detail), ()


def _with(record: Record, new: NewLimits, interfaces: tuple[Interface, ...] | None) -> Record:
    spec = record.spec
    resources = replace(
        spec.resources, limits=new.resources.limits, swap_bytes=new.resources.swap_bytes
    )
    networks = spec.networks if new.networks is None else new.networks
    record = replace(record, spec=replace(spec, resources=resources, networks=networks))
    if interfaces is None:
        return record
    held = tuple([TaskAddress(network_id=i.network_id, address=i.address) for i in interfaces])
    detail = replace(record.detail, addresses=held)
    return replace(record, interfaces=interfaces, detail=detail)


def held_before(record: Record) -> tuple[Interface, ...]:
    """The interfaces that a task had before a change was begun."""
    had = [(one.network_id, one.address) for one in record.detail.addresses]
    return tuple([one for one in record.held if (one.network_id, one.address) in had])
