"""Rolling back and removing stacks, and what is left to do of a change. PURE: state and request in,
writes and an answer, or an error out.

A change of a large stack takes several transactions, and a leader may die between two. The stack is
stored first, marked as `applying`: the next leader makes the rest from the stored version. What is
removed goes once no task uses it any more; until then the stack has it among `leaving`.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from msgspec.structs import replace

from controller.api.changes.networks import remove_network
from controller.api.changes.services import remove_service
from controller.api.changes.volumes import remove_volume
from controller.api.queries.lookup import find, is_named
from controller.api.stacking.apply import converge
from controller.api.stacking.records import recorded
from controller.api.stacking.services import drop_service
from controller.api.stacking.work import Owned, Work, owned_by
from controller.brain.payloads import (
    PAYLOAD_KINDS,
    kept_ids,
    kind_of_reference,
    references_of,
    used_specs,
)
from controller.brain.slices import Slices, batches
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, InvalidArgument, NotFound, invalid, quoted
from pyswarm_core.identity.users import STACK_LABEL
from pyswarm_core.ids import IdSource, ServiceId
from pyswarm_core.kinds import CONFIG, KINDS, NETWORK, SECRET, SERVICE, STACK, VOLUME, Kind
from pyswarm_core.limits import SLICE_OBJECTS
from pyswarm_core.objects import Service, Version
from pyswarm_core.payloads.payload import Payload
from pyswarm_core.stacks.changes import Action, StackReply
from pyswarm_core.stacks.limits import STACK_SLICE
from pyswarm_core.stacks.stack import PreviousStack, Stack, StackContent, StackId, StackMember
from pyswarm_core.state import State


def rollback_target(stack: Stack, to: int) -> PreviousStack:
    """What a rollback returns to; 0: the version before. Raises Conflict, InvalidArgument."""
    name = stack.spec.name
    if not stack.previous_specs:
        raise Conflict(
            f"stack {quoted(name)} has no earlier version to roll back to: pyswarm stack history"
            f" {name} lists its versions"
        )
    found = next((one for one in stack.previous_specs if one.version == to), None)
    if to and found is None:
        kept = ", ".join(str(one.version) for one in reversed(stack.previous_specs))
        raise invalid("--to", to, f"expected an earlier version that is kept: {kept}", "version")
    return found or stack.previous_specs[0]


def rollback_stack(
    state: State,
    stack_id: str,
    to: int,
    routes: Iterable[str],
    *,
    now: Instant,
    ids: IdSource,
    dry_run: bool = False,
) -> Slices[tuple[Writes, StackReply]]:
    """The stack with an earlier version, as a new one: its services, with the versions of secrets
    and configs that they had.

    Raises NotFound, InvalidArgument (a version that is not kept), Conflict (there is no earlier
    version, or it names a secret that was removed; the stack is being removed; as `apply_stack`).
    """
    stack = find(state, STACK, stack_id)
    if stack.removing:
        raise Conflict(f"stack {quoted(stack.spec.name)} is being removed")
    target = rollback_target(stack, to)
    _require_versions(state, stack, target)
    leaving = tuple(_dropped(state, stack, target.spec))
    why = f"version {stack.spec_version} had it"
    dropped = {ServiceId(one.id): why for one in leaving}
    work, content = yield from converge(
        state, target.spec, stack.spec, routes, now=now, ids=ids, dropped=dropped
    )
    after = yield from recorded(work, content, leaving)
    reply = StackReply(stack=after or stack, changes=tuple(work.changes))
    if after is None or dry_run:
        return Writes(), reply
    return work.written(after), reply


def _require_versions(state: State, stack: Stack, target: PreviousStack) -> None:
    """Raise Conflict if the version names a secret or config that is gone, as after --prune."""
    if not (gone := _gone(state, target.spec)):
        return
    kept = [one.version for one in stack.previous_specs if not _gone(state, one.spec)]
    others = ", ".join(map(str, reversed(kept)))
    instead = f"roll back to version {others}, or " if others else ""
    raise Conflict(
        f"stack {quoted(stack.spec.name)} cannot return to version {target.version}: {gone}, which"
        f" was removed: {instead}apply a file that has it"
    )


def _gone(state: State, content: StackContent) -> str:
    """A service, and the version of a secret or config that it names and that is not there."""
    for service in content.services:
        for one in service.task_template.container_spec.references:
            kind = kind_of_reference(one).name
            if one.number and one.number not in state.payloads[kind].of(one.source):
                return f"service {service.name} uses {kind} {one.source}@{one.number}"
    return ""


def _dropped(state: State, stack: Stack, content: StackContent) -> Iterator[StackMember]:
    """The services of the present version that the content does not have. One that was removed
    since, and whose name another stack has taken, is not the stack's.
    """
    names = {one.name for one in content.services}
    for spec in stack.spec.services:
        known = state.service_of_name.get(spec.name)
        if spec.name in names or known is None:
            continue
        if state.services[known].spec.labels.get(STACK_LABEL) == stack.spec.name:
            yield StackMember(kind=SERVICE.name, id=known, name=spec.name)


def remove_stack(
    state: State, ref: str, now: Instant, ids: IdSource, *, volumes: bool
) -> Slices[tuple[Writes, StackReply]]:
    """The stack marked for removal; `finish_stack` removes its services. A second removal changes
    nothing. Objects that have the label of a stack which was never applied are removed alike.
    """
    labelled = yield from owned_by_label_alone(state, ref)
    if labelled:
        (drawn,) = ids.draw(1)
        stack = Stack(id=StackId(drawn), spec=StackContent(name=ref), created_at=now)
    else:
        stack = find(state, STACK, ref)
    owned = labelled or (yield from owned_by(state, stack.spec.name))
    kinds = (NETWORK, SECRET, CONFIG, *((VOLUME,) if volumes else ()))
    leaving = tuple(_members_of(owned, kinds))
    work = Work(state, stack.spec.name, (), now, _NO_IDS)
    for service in owned[SERVICE.name].values():
        work.tell(Action.REMOVED, SERVICE, SERVICE.title(service), service.id)  # type: ignore[arg-type]
    for one in leaving:
        work.tell(Action.REMOVED, KINDS[one.kind], one.name, one.id)
    known = {(one.kind, one.id) for one in stack.leaving} if stack.removing else set()
    if stack.removing and known.issuperset((one.kind, one.id) for one in leaving):
        return Writes(), StackReply(stack=stack, changes=tuple(work.changes))
    version = Version(index=stack.version.index + 1)
    marked = replace(
        _without_pending(stack), removing=True, leaving=leaving, version=version, updated_at=now
    )
    return Writes(objects=(marked,)), StackReply(stack=marked, changes=tuple(work.changes))


def owned_by_label_alone(state: State, ref: str) -> Slices[Owned]:
    """The objects with the label of a stack that nobody applied; empty if there is such a stack, or
    none of them. The beginning of another stack's id does not count before them.
    """
    if not ref or is_named(state, STACK, ref):
        return {}
    owned = yield from owned_by(state, ref)
    return owned if any(owned.values()) else {}


def finish_stack(
    state: State,
    stack_id: StackId,
    routes: Iterable[str],
    now: Instant,
    ids: IdSource,
    *,
    stored: Version | None = None,
) -> Slices[tuple[Writes, None]]:
    """The next step of a change of a stack that is not complete; nothing while it waits for tasks
    to end. `stored`: the version that was seen before; one that was applied since may be stored in
    parts together with this step, and stays marked as being applied. None: whichever it has.
    """
    stack = state.of(STACK).get(stack_id)
    if stack is None or not stack.is_unfinished:
        return Writes(), None
    if stack.applying and not stack.removing and stored not in (None, stack.version):
        return Writes(), None
    if stack.removing:
        return (yield from _removed(state, stack, now)), None
    if stack.applying:
        before = stack.applied_from
        dropped = dict.fromkeys(_leaving_services(state, stack), "not in the file")
        work, _ = yield from converge(
            state, stack.spec, before, routes, now=now, ids=ids, dropped=dropped
        )
        writes = work.written()
        if writes.objects or writes.removed:  # they may be stored in parts: the mark stays
            return writes, None
        return settled(state, stack.id, stack.version)
    owned = yield from owned_by(state, stack.spec.name)
    work = Work(state, stack.spec.name, (), now, ids)
    left = yield from _left(work, stack, owned)
    if left == stack.leaving:
        return Writes(), None
    return work.written(replace(stack, leaving=left)), None


def _leaving_services(state: State, stack: Stack) -> Iterator[ServiceId]:
    """The services whose removal has to begin: others may get their ports."""
    for member in stack.leaving:
        service = state.services.get(ServiceId(member.id)) if member.kind == SERVICE.name else None
        if service is not None and not service.removing:
            yield service.id


def settled(state: State, stack_id: StackId, version: Version) -> tuple[Writes, None]:
    """The stack once the store has all of its change."""
    stack = state.of(STACK).get(stack_id)
    if stack is None or not stack.applying or stack.version != version:
        return Writes(), None
    return Writes(objects=(replace(_without_pending(stack), applying=False),)), None


def _without_pending(stack: Stack) -> Stack:
    return replace(stack, pending=(), logins=())


def _removed(state: State, stack: Stack, now: Instant) -> Slices[Writes]:
    """The removal of the services; once they are gone, of what they used and of the stack."""
    owned = yield from owned_by(state, stack.spec.name)
    work = Work(state, stack.spec.name, (), now, _NO_IDS)
    for services in batches(list(owned[SERVICE.name].values()), STACK_SLICE):
        for service in services:
            if isinstance(service, Service):
                drop_service(work, service, "")
        yield
    if owned[SERVICE.name]:
        return work.written()
    if _has_tasks(state, stack.spec.name):
        return Writes()
    uses = yield from _uses(state, stack)
    for batch in batches(stack.leaving, STACK_SLICE):
        for member in batch:
            if member.id in owned[member.kind]:  # others may have its name since
                _remove(work, member, uses)
        yield
    work.write(Writes(removed=(STACK.object_name(stack.id),)))
    return work.written()


def _has_tasks(state: State, name: str) -> bool:
    """Whether services of the stack are still being removed."""
    return any(
        one.removing and one.spec.labels.get(STACK_LABEL) == name for one in state.services.values()
    )


class _Uses(NamedTuple):
    """What services name, found once for all that leaves: only looked up, never iterated."""

    used: set[tuple[str, str]]
    """Kinds and ids of versions of secrets and configs in use."""
    kept: set[tuple[str, str]]
    """Those and the ones to which services, or the stack, may return."""
    named: set[tuple[str, str]]
    """Kinds, and ids of networks or names of secrets and configs, in specs of services that are not
    being removed.
    """


def _uses(state: State, stack: Stack) -> Slices[_Uses]:
    uses = _Uses(set(), set(), set())
    for batch in batches(list(state.services.values()), SLICE_OBJECTS):
        for service in batch:
            _add_uses(uses, state, service)
        yield
    for content in (stack.spec, *(one.spec for one in stack.previous_specs)):
        for kind, versions in ((SECRET, content.secrets), (CONFIG, content.configs)):
            for one in versions:
                known = state.payloads[kind.name].of(one.spec.name).get(one.number)
                if known is not None:
                    uses.kept.add((kind.name, known))
        yield
    return uses


def _add_uses(uses: _Uses, state: State, service: Service) -> None:
    for kind in PAYLOAD_KINDS:
        for spec in used_specs(state, service):
            uses.used.update((kind.name, one.id) for one in references_of(spec, kind.name))
        uses.kept.update((kind.name, one) for one in kept_ids(state, kind.name, service))
    if not service.removing:
        template = service.spec.task_template
        uses.named.update((NETWORK.name, one.target) for one in template.networks)
        references = template.container_spec.references
        uses.named.update((kind_of_reference(one).name, one.source) for one in references)


def _left(work: Work, stack: Stack, owned: Owned) -> Slices[tuple[StackMember, ...]]:
    """Removes what nothing uses, and returns what tasks use that are to end. What the spec of a
    service names stays, and is no longer to leave.
    """
    waits = _has_tasks(work.base, stack.spec.name)
    uses = yield from _uses(work.base, stack)
    left = []
    for batch in batches(stack.leaving, STACK_SLICE):
        for member in batch:
            if member.id not in owned[member.kind] or _remove(work, member, uses):
                continue
            name = member.id if member.kind == NETWORK.name else member.name
            is_named = (member.kind, name) in uses.named
            if waits or not ("@" in member.name or is_named):
                left.append(member)
        yield
    return tuple(left)


def _remove(work: Work, member: StackMember, uses: _Uses) -> bool:
    """Remove an object; false if something uses it."""
    writes: Writes
    try:
        match member.kind:
            case SERVICE.name:
                writes = remove_service(work.state, member.id, work.now)[0]
            case NETWORK.name:
                writes = remove_network(work.state, member.id)[0]
            case VOLUME.name:
                writes = remove_volume(work.state, member.id, work.now)[0]
            case _:
                writes = _without_versions(work.state, member, uses)
    except NotFound:
        return True
    except (Conflict, InvalidArgument):
        return False
    work.write(writes)
    return True


def _without_versions(state: State, member: StackMember, uses: _Uses) -> Writes:
    """The removal of a secret or config, or of the version of it that the member names. Raises
    Conflict if something uses it, or may return to that version.
    """
    name, at, _ = member.name.partition("@")
    ids = [member.id] if at else list(state.payloads[member.kind].of(name).values())
    taken = uses.kept if at else uses.used
    if any((member.kind, one) in taken for one in ids):
        raise Conflict(f"{member.kind} {member.name} is in use")
    kind: Kind[Any, Any] = KINDS[member.kind]
    return Writes(removed=tuple(map(kind.object_name, ids)))


def _members_of(owned: Owned, kinds: Iterable[Any]) -> Iterator[StackMember]:
    """The objects of these kinds; of a secret or config its newest version alone."""
    for kind in kinds:
        found: dict[str, str] = {}
        for item in owned[kind.name].values():
            found[item.spec.name if isinstance(item, Payload) else kind.title(item)] = item.id
        for name, object_id in found.items():
            yield StackMember(kind=kind.name, id=object_id, name=name)


class _NoIds:
    def draw(self, count: int) -> list[str]:
        raise AssertionError("a removal creates nothing")


_NO_IDS: Any = _NoIds()
