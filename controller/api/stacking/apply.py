"""Applying a stack: everything that it consists of, as one change. PURE: state and request in,
writes and an answer, or an error out.

A dry run is the same computation without its writes, so what it shows is what happens. The answer's
revision is derived from the versions of the stack's objects: a request with that revision is
refused once one of them has changed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from controller.api.payloads.changes import PayloadKind
from controller.api.stacking.meaning import meaning, spec_of
from controller.api.stacking.parts import put_network, put_payload, put_volume
from controller.api.stacking.records import recorded, versions_of
from controller.api.stacking.services import (
    Wanted,
    drop_service,
    free_ports,
    login_for,
    put_service,
)
from controller.api.stacking.work import OF_STACKS, Owned, Work, owned_by, revision_of
from controller.brain.slices import Slices, batches
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, invalid, quoted, similar
from pyswarm_core.ids import IdSource, ServiceId
from pyswarm_core.kinds import CONFIG, NETWORK, SECRET, SERVICE, VOLUME
from pyswarm_core.payloads.payload import Payload
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.stacks.changes import Action, ApplyStack, StackReply
from pyswarm_core.stacks.dependencies import dependencies_first
from pyswarm_core.stacks.limits import STACK_SLICE
from pyswarm_core.stacks.spec import StackPayload, StackSpec
from pyswarm_core.stacks.stack import Stack, StackContent, StackMember, StackPayloadVersion
from pyswarm_core.stacks.validation import stack_problems
from pyswarm_core.state import State
from pyswarm_core.validation import require
from pyswarm_core.volumes.drivers import masked

_NONE: Mapping[ServiceId, str] = {}


def apply_stack(
    state: State, request: ApplyStack, routes: Iterable[str], now: Instant, ids: IdSource
) -> Slices[tuple[Writes, StackReply]]:
    """The change that makes the stack what the request says, and what becomes of each object.

    Raises InvalidArgument, NotFound (a network, secret or config of others), AlreadyExists,
    Conflict (changed since the dry run, being removed, an object of another stack, a port in use,
    settings that cannot change), Unavailable (limits of the fleet).
    """
    spec = request.spec
    _require_valid(request)
    work = Work(state, spec.name, routes, now, ids)
    stack, owned = work.stack, (yield from owned_by(state, spec.name))
    revision = revision_of(stack, owned)
    _require_current(stack, request, revision)
    chosen = request.services or tuple(one.name for one in spec.services)
    yield from _put_parts(work, spec, chosen, knows_passwords=True)
    present = None if stack is None else stack.spec
    leaving = (yield from _pruned(work, request, owned)) if not request.services else ()
    leaving = tuple(dict.fromkeys((*leaving, *_still_leaving(stack, spec))))
    content = yield from _put_services(work, request, chosen, present)
    writes, reply = yield from _answered(work, request, content, (*leaving, *work.stale))
    return writes, replace(reply, revision=revision)


def converge(
    state: State,
    content: StackContent,
    before: StackContent | None,
    routes: Iterable[str],
    *,
    now: Instant,
    ids: IdSource,
    dropped: Mapping[ServiceId, str] = _NONE,
) -> Slices[tuple[Work, StackContent]]:
    """The steps that make the stack what a version of it says, and its content. `before`: the
    version from which they begin; `dropped`: services whose removal begins, and why.
    """
    work = Work(state, content.name, routes, now, ids)
    request = ApplyStack(spec=spec_of(content))
    names = [one.name for one in content.services]
    yield from _put_parts(work, request.spec, (), knows_passwords=False)
    for leaving in batches(list(dropped.items()), STACK_SLICE):
        for service_id, reason in leaving:
            drop_service(work, work.state.services[service_id], reason)
        yield
    made = yield from _put_services(work, request, names, before)
    secrets = _stored(work, SECRET, content.secrets)
    return work, replace(made, secrets=secrets, configs=_stored(work, CONFIG, content.configs))


def _stored(
    work: Work, kind: PayloadKind, versions: tuple[StackPayloadVersion, ...]
) -> tuple[StackPayloadVersion, ...]:
    """Those that were not removed since, which no service uses."""
    known = work.state.payloads[kind.name]
    return tuple(one for one in versions if one.number in known.of(one.spec.name))


def _require_valid(request: ApplyStack) -> None:
    spec = request.spec
    require(stack_problems(spec))
    known = [one.name for one in spec.services]
    for field in ("services", "recreate"):
        for name in getattr(request, field):
            if name not in known:
                raise invalid(field, name, f"the stack has no such service{similar(name, known)}")


def _require_current(stack: Stack | None, request: ApplyStack, revision: int) -> None:
    name = quoted(request.spec.name)
    if stack is not None and stack.removing:
        raise Conflict(f"stack {name} is being removed: apply it again once its tasks have ended")
    if request.revision not in (0, revision):
        raise Conflict(f"stack {name} changed between plan and apply: run it again")


def _put_parts(
    work: Work, spec: StackSpec, chosen: Sequence[str], *, knows_passwords: bool
) -> Slices[None]:
    """Networks, volumes, secrets and configs. Versions that are stored have no passwords."""
    yield from work.look()
    for networks in batches(spec.networks, STACK_SLICE):
        for network in networks:
            put_network(work, network)
        yield
    for volumes in batches(spec.volumes, STACK_SLICE):
        for volume in volumes:
            put_volume(work, volume, knows_passwords=knows_passwords)
        yield
    names = frozenset(chosen)
    for kind, payloads in _payloads(spec):
        for one in payloads:
            yield from put_payload(work, kind, one, names)
            yield


def _payloads(spec: StackSpec) -> Iterator[tuple[PayloadKind, tuple[StackPayload, ...]]]:
    yield SECRET, spec.secrets
    yield CONFIG, spec.configs


def _put_services(
    work: Work, request: ApplyStack, chosen: Sequence[str], present: StackContent | None
) -> Slices[StackContent]:
    """The services, each after those that it depends on, and the content of the new version: a
    dependency that changed its direction forms no circle in between.
    """
    spec = request.spec
    before = {one.name: one for one in present.services} if present is not None else {}
    names, recorded = frozenset(chosen), dict[str, ServiceSpec]()
    named = {one.name: one for one in spec.services}
    needed = {name: [each.service for each in one.depends_on] for name, one in named.items()}
    services = [named[name] for name in dependencies_first(needed)]
    free_ports(work, (one for one in services if one.name in names))
    for batch in batches(services, STACK_SLICE):
        for one in batch:
            if one.name not in names:
                if one.name in before:
                    recorded[one.name] = before[one.name]
                continue
            wanted = Wanted(
                spec=one,
                before=before.get(one.name),
                login=login_for(request.logins, one),
                resets_scale=request.reset_scale or one.name in request.rescaled,
                recreates=one.name in request.recreate,
            )
            recorded[one.name] = meaning(put_service(work, wanted))
        yield
    volumes = (replace(one, driver_opts=masked(one.driver_opts)) for one in spec.volumes)
    return StackContent(
        name=spec.name,
        services=tuple(recorded[name] for name in sorted(recorded)),
        networks=tuple(sorted(spec.networks, key=lambda one: one.name)),
        volumes=tuple(sorted(volumes, key=lambda one: one.name)),
        secrets=versions_of(work, SECRET, spec.secrets),
        configs=versions_of(work, CONFIG, spec.configs),
    )


def _pruned(work: Work, request: ApplyStack, owned: Owned) -> Slices[tuple[StackMember, ...]]:
    """Begin the removal of what left the stack, or say that it is still there. What services may
    use until their tasks have ended is in the answer: the leader removes it then.
    """
    leaving, named = [], _names(request.spec)
    before = work.stack.leaving if work.stack is not None else ()
    for kind in OF_STACKS:
        left = dict[str, str]()
        for item in owned[kind.name].values():
            name = item.spec.name if isinstance(item, Payload) else kind.title(item)
            if name not in named[kind.name]:
                left[name] = item.id
        for batch in batches(list(left.items()), STACK_SLICE):
            for name, object_id in batch:
                member = StackMember(kind=kind.name, id=object_id, name=name)
                goes = request.prune or member in before
                _prune(work, kind, member, goes=goes)
                if goes and kind is not VOLUME:
                    leaving.append(member)
            yield
    return tuple(leaving)


def _names(spec: StackSpec) -> dict[str, set[str]]:
    """The names of the stack's objects, by kind."""
    return {
        SERVICE.name: {one.name for one in spec.services},
        NETWORK.name: {one.name for one in spec.networks},
        VOLUME.name: {one.name for one in spec.volumes},
        **{kind.name: {one.spec.name for one in given} for kind, given in _payloads(spec)},
    }


def _still_leaving(stack: Stack | None, spec: StackSpec) -> Iterator[StackMember]:
    """What an earlier change removes once nothing uses it."""
    named = _names(spec)
    for member in stack.leaving if stack is not None else ():
        if member.name not in named[member.kind]:
            yield member


def _prune(work: Work, kind: PayloadKind, member: StackMember, *, goes: bool) -> None:
    name, object_id = member.name, member.id
    if kind is VOLUME:
        work.tell(Action.KEPT, kind, name, object_id, reason="not in the file; volumes are kept")
    elif not goes:
        reason = "not in the file; --prune removes it"
        work.tell(Action.KEPT, kind, name, object_id, reason=reason)
    elif kind is SERVICE:
        drop_service(work, work.state.of(SERVICE)[object_id], "not in the file")  # type: ignore[index]
    else:
        reason = "not in the file"
        if kind in (SECRET, CONFIG):
            reason += "; no rollback to versions of the stack that use it"
        work.tell(Action.REMOVED, kind, name, object_id, reason=reason)


def _answered(
    work: Work, request: ApplyStack, content: StackContent, leaving: tuple[StackMember, ...]
) -> Slices[tuple[Writes, StackReply]]:
    stack = yield from recorded(work, content, leaving)
    if request.dry_run or stack is None:
        return Writes(), StackReply(stack=work.stack, changes=tuple(work.changes))
    return work.written(stack), StackReply(stack=stack, changes=tuple(work.changes))
