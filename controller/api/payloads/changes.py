"""Creating, updating and removing secrets and configs. PURE: state and request in, writes or an
error out.

Every version is an object that never changes. An update creates the next one, and revises the
services that follow the newest; what no kept spec names is removed beyond `keep_versions`.
"""

from collections.abc import Collection, Container
from itertools import chain, islice
from typing import Any, NamedTuple

from msgspec.structs import replace

from controller.api.changes.unreadable import NAME, remove_unreadable
from controller.api.queries.lookup import find
from controller.brain.following import following
from controller.brain.payloads import kept_by_stack, kept_ids, users_of
from controller.brain.slices import Slices, batches
from controller.brain.storable import require_storable
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import AlreadyExists, InvalidArgument, Unavailable, invalid, quoted
from pyswarm_core.ids import IdSource, ServiceId
from pyswarm_core.kinds import Kind, ObjectName
from pyswarm_core.limits import VALUE_BYTES_MAX
from pyswarm_core.objects import Service, Version
from pyswarm_core.payloads.limits import PAYLOADS_BYTES_MAX, PAYLOADS_MAX, SLICE_FOLLOWERS
from pyswarm_core.payloads.payload import Payload, PayloadId, PayloadSpec
from pyswarm_core.payloads.references import NO_SIGNAL
from pyswarm_core.payloads.templates import require_template
from pyswarm_core.state import State
from pyswarm_core.validation import payload_problems, require
from pyswarm_core.validation.container import signal_problems

_NAMED = 5
_SEALED_BYTES = 1024
"""What encryption adds to a stored value, and more."""

PayloadKind = Kind[Any, Any]


class New(NamedTuple):
    """A version to create."""

    spec: PayloadSpec
    data: bytes
    number: int = 1
    reload: str = ""


def create_payload(
    state: State, kind: PayloadKind, new: New, now: Instant, ids: IdSource
) -> tuple[Writes, Payload]:
    """A new secret or config, version 1.

    Raises InvalidArgument, AlreadyExists, Unavailable (too many, or too much data).
    """
    require(payload_problems(kind.name, new.spec, len(new.data)))
    if state.payloads[kind.name].of(new.spec.name):
        raise AlreadyExists(f"{kind.name} {new.spec.name} already exists")
    made = made_payload(state, kind, new, now, ids)
    return Writes(objects=(made,)), made


class Update(NamedTuple):
    """A request for the next version of a secret or config."""

    ref: str
    data: bytes
    keep_versions: int | None = None
    """None: as before."""
    reload: str = ""
    """Running containers get the version, with that signal or NO_SIGNAL; empty: their tasks are
    replaced.
    """


class Updated(NamedTuple):
    """The new version, and the services that are updated to it."""

    payload: Payload
    services: tuple[ServiceId, ...]


def update_payload(
    state: State, kind: PayloadKind, update: Update, now: Instant, ids: IdSource
) -> Slices[tuple[Writes, Updated]]:
    """The next version, and the services that follow the newest one with specs that name it. The
    same data again creates no version, and updates the services that do not have it.

    Raises NotFound, InvalidArgument, Unavailable, Conflict (a service has tasks of too many specs).
    """
    found = find(state, kind, update.ref)
    name = found.spec.name
    if update.ref == found.title:
        raise invalid(kind.name, update.ref, f"an update creates the next version: expected {name}")
    known = state.payloads[kind.name]
    old = state.of(kind)[known.of(name)[max(known.of(name))]]
    kept = update.keep_versions
    spec = old.spec if kept is None else replace(old.spec, keep_versions=kept)
    require([*payload_problems(kind.name, spec, len(update.data))])
    if update.reload not in ("", NO_SIGNAL):
        require([*signal_problems("--reload", update.reload)])
    if update.data == old.data and spec == old.spec:
        again = replace(old, reload=update.reload)
        left = tuple((yield from followers_of(state, again, now)))
        return Writes(objects=left), Updated(old, tuple(service.id for service in left))
    new = New(spec, update.data, old.number + 1, update.reload)
    made = made_payload(state, kind, new, now, ids)
    services = tuple((yield from followers_of(state, made, now)))
    gone = tuple((yield from _beyond(state, kind, made, services)))
    writes = Writes(objects=(*services, made), removed=gone)
    return writes, Updated(made, tuple(service.id for service in services))


def made_payload(state: State, kind: PayloadKind, new: New, now: Instant, ids: IdSource) -> Payload:
    """The version that is created. Raises InvalidArgument, Unavailable."""
    if new.spec.templating is not None:
        require_template(f"{kind.name} {new.spec.name}", new.data)
    objects = state.of(kind)
    if len(objects) >= PAYLOADS_MAX:
        raise Unavailable(f"there are {PAYLOADS_MAX} versions of {kind.name}s, which is the limit")
    if sum(len(one.data) for one in objects.values()) + len(new.data) > PAYLOADS_BYTES_MAX:
        most = PAYLOADS_BYTES_MAX // (1024 * 1024)
        raise Unavailable(f"all {kind.name}s would have more than {most} MiB of data, the limit")
    (drawn,) = ids.draw(1)
    made: Payload = kind.struct(
        id=PayloadId(drawn),
        spec=new.spec,
        version=Version(index=1),
        created_at=now,
        updated_at=now,
        number=new.number,
        data=new.data,
        reload=new.reload,
    )
    require_storable(f"{kind.name} {quoted(new.spec.name)}", made, VALUE_BYTES_MAX - _SEALED_BYTES)
    return made


def followers_of(
    state: State,
    made: Payload,
    now: Instant,
    without: Container[str] = (),
    among: Collection[ServiceId] | None = None,
) -> Slices[list[Service]]:
    """The services that follow the newest version, with the one that is made now; not those of the
    names `without`. `among`: of these; None: of all.
    """
    found = []
    for batch in batches(list(state.services if among is None else among), SLICE_FOLLOWERS):
        for service_id in batch:
            service = state.services.get(service_id)
            if service is None or service.spec.name in without:
                continue
            changed = following(state, service, made, now)
            if changed is not None:
                found.append(changed)
        yield
    return found


def _beyond(
    state: State, kind: PayloadKind, made: Payload, services: tuple[Service, ...]
) -> Slices[list[ObjectName]]:
    """The object names of unused versions beyond `keep_versions`, oldest first."""
    versions = state.payloads[kind.name].of(made.spec.name)
    of_stack = kept_by_stack(state, made)
    older = [
        number
        for number in sorted(versions, reverse=True)[made.spec.keep_versions :]
        if number not in of_stack
    ]
    if not older:
        return []
    used: set[str] = set()
    for batch in batches(chain(services, list(state.services.values())), SLICE_FOLLOWERS):
        for service in batch:
            used.update(kept_ids(state, kind.name, service))
        yield
    return [
        kind.object_name(versions[number])
        for number in reversed(older)
        if versions[number] not in used
    ]


def require_removable(state: State, kind: PayloadKind, found: Payload, ref: str) -> None:
    """Raise InvalidArgument if the ref names the newest of several versions by its number: it is
    not removed alone, and who names a version does not mean all.
    """
    known, name = state.payloads[kind.name], found.spec.name
    if ref == found.title and known.is_newest(found) and len(known.of(name)) > 1:
        raise InvalidArgument(
            f"{kind.name} '{ref}' is the newest version: `pyswarm {kind.name} rm {name}` removes"
            f" all, `pyswarm {kind.name} update {name} FILE` creates the next"
        )


def remove_payload(
    state: State, kind: PayloadKind, ref: str, now: Instant
) -> tuple[Writes, Payload]:
    """Remove a secret or config with all its versions, or an older version alone.

    Raises NotFound, and InvalidArgument in Docker's words naming the services that use it.
    """
    del now
    if (unreadable := remove_unreadable(state, kind, ref)) is not None:
        writes, payload_id = unreadable
        return writes, kind.struct(id=payload_id, spec=PayloadSpec(name=NAME))
    found = find(state, kind, ref)
    known = state.payloads[kind.name]
    name = found.spec.name
    versions = known.of(name)
    is_newest = known.is_newest(found)
    require_removable(state, kind, found, ref)
    ids = list(versions.values()) if is_newest else [found.id]
    users = [one.spec.name for one in islice(users_of(state, kind.name, ids), _NAMED + 1)]
    if users:
        more = " and others" if len(users) > _NAMED else ""
        what = "services" if len(users) > 1 else "service"
        named = ", ".join(sorted(users[:_NAMED])) + more
        title = name if is_newest else found.title
        raise InvalidArgument(f"{kind.name} '{title}' is in use by the following {what}: {named}")
    return Writes(removed=tuple(map(kind.object_name, ids))), found
