"""The steps of a task whose service got other limits, or other versions of secrets and configs with
`--reload`, or whose container other networks. PURE.

The container has the new ones as soon as its process runs. One change is carried out at a time: two
could finish in either order. What was refused is not tried again. The record has the interfaces of
a change before the kernel has them, and until they are gone, so a restarted agent finds all.
"""

from msgspec.structs import replace

from agent.tasks.events import ChangedInPlace, Effect, InPlaceRequested, NetworksJoining
from agent.tasks.record import InPlaceChange, Interface, Record
from pyswarm_core.objects import TaskAddress

Outcome = tuple[Record, tuple[Effect, ...]]
_CHANGE = (Effect.CHANGE_IN_PLACE,)


def due(record: Record) -> tuple[Effect, ...]:
    """The effect to carry out once the process runs: that of a former agent may be lost."""
    return _CHANGE if record.in_place_change is not None and record.process_runs else ()


def step(record: Record, event: InPlaceRequested | NetworksJoining | ChangedInPlace) -> Outcome:
    """The record after the event, and the effects that follow."""
    match event:
        case InPlaceRequested(change=change):
            return _requested(record, change)
        case NetworksJoining(interfaces=interfaces):
            return record if record.ended else replace(record, interfaces=interfaces), ()
        case ChangedInPlace():
            return _changed(record, event)


def _requested(record: Record, change: InPlaceChange) -> Outcome:
    """The change of a spec version arrived, perhaps not for the first time."""
    if record.ended or change.version <= record.in_place_version:
        return record, ()
    refused = record.detail.in_place_error and not record.detail.networks_refused
    forced = record.in_place_change is not None or bool(refused)
    after = replace(record, in_place_change=replace(change, forced=forced))
    return after, () if record.in_place_change else due(after)


def _changed(record: Record, event: ChangedInPlace) -> Outcome:
    """A change was carried out, or refused."""
    pending = record.in_place_change
    if record.ended or pending is None:
        return record, ()
    new = event.change
    if not event.error:
        record = _with_networks(_with_resources(record, new), new, event.interfaces)
    elif event.networks_refused:
        record = _with_resources(record, new)
    if new.version != pending.version:
        return record, _CHANGE
    detail = replace(
        record.detail,
        in_place_version=new.version,
        in_place_error=event.error,
        networks_refused=event.networks_refused,
    )
    return replace(record, in_place_change=None, detail=detail), ()


def _with_resources(record: Record, new: InPlaceChange) -> Record:
    resources = replace(
        record.spec.resources, limits=new.resources.limits, swap_bytes=new.resources.swap_bytes
    )
    spec = new.with_references(replace(record.spec, resources=resources))
    return replace(record, spec=spec)


def _with_networks(
    record: Record, new: InPlaceChange, interfaces: tuple[Interface, ...] | None
) -> Record:
    if new.networks is not None:
        record = replace(record, spec=replace(record.spec, networks=new.networks))
    if interfaces is None:
        return record
    held = tuple([TaskAddress(network_id=i.network_id, address=i.address) for i in interfaces])
    detail = replace(record.detail, addresses=held)
    return replace(record, interfaces=interfaces, detail=detail)


def held_before(record: Record) -> tuple[Interface, ...]:
    """The interfaces that a task had before a change was begun."""
    had = [(one.network_id, one.address) for one in record.detail.addresses]
    return tuple([one for one in record.held if (one.network_id, one.address) in had])
