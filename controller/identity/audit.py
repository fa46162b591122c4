"""Audit records of changes and of refused requests. PURE.

A record is computed from the state before the change and what the change writes, so no use case has
to describe itself. Only the spec of an object, and that a sensitive field changed, is recorded: a
field that somebody adds to an object later is left out unless its kind names it sensitive.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import msgspec

from controller.identity.caller import Caller, CallerKind
from controller.identity.differences import differences
from controller.identity.masking import without_secrets
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.docker import networking
from pyswarm_core.identity.audit import MASK, OK, AuditClass, AuditRecord, FieldChange
from pyswarm_core.identity.author import Author
from pyswarm_core.identity.limits import AUDIT_RECORD_BYTES, AUDIT_VALUE_BYTES
from pyswarm_core.identity.users import User, UserToken
from pyswarm_core.ids import short
from pyswarm_core.keys import chunk_of
from pyswarm_core.kinds import CLUSTER, KINDS, SERVICE, STACK, Kind, kind_of, split_name
from pyswarm_core.model import docker_name
from pyswarm_core.objects import Object, Service, Task, clipped
from pyswarm_core.specs import ReplicatedMode, ServiceSpec
from pyswarm_core.stacks.stack import Stack
from pyswarm_core.state import State
from pyswarm_core.volumes.volume import Volume

T = TypeVar("T")
replace = msgspec.structs.replace

UPDATE = "service update"
_TEXT_BYTES = 128
"""The caller's name, address, verb and object, each."""
_RESULT_BYTES = 512
_RECORD_BYTES = 200
"""Keys, ids, numbers and tags of a record, and its key in the store."""
_CHANGE_BYTES = 8
_NAMELESS = (CallerKind.ANONYMOUS, CallerKind.CONTROLLER)


class Target(NamedTuple):
    """The object that a change is about."""

    name: str
    """Under which it is stored, as by Keys.name_of: the record is stored with it."""
    kind: str
    id: str
    title: str
    before: Object | Task | None
    after: Object | Task | None


def class_of(caller: Caller) -> AuditClass:
    """The class of the records of this caller's changes."""
    is_host = caller.kind in (CallerKind.AGENT, CallerKind.ANONYMOUS)
    return AuditClass.HOST if is_host else AuditClass.CHANGE


def is_controller(caller: Caller) -> bool:
    """Whether a controller acts by itself; its decisions have no records."""
    return caller.kind is CallerKind.CONTROLLER


def name_of(caller: Caller) -> str:
    """The caller's name in events; empty if it has none."""
    return "" if caller.kind in _NAMELESS else caller.name


def author_of(caller: Caller) -> Author | None:
    """The caller as the author of a change; None if it has no name."""
    if caller.kind in _NAMELESS:
        return None
    is_root = caller.kind is CallerKind.ROOT
    return Author(name=caller.name, role="" if is_root or not caller.role else caller.role.value)


def signed(state: State, writes: Writes, result: T, caller: Caller) -> tuple[Writes, T]:
    """The writes and the answer of a request, with the caller as the author of the new versions."""
    author = author_of(caller)
    objects = tuple(_signed(state, item, author) for item in writes.objects)
    for old, new in zip(writes.objects, objects, strict=True):
        if result is old:
            result = new  # type: ignore[assignment]  # of the same type
    return replace(writes, objects=objects), result


def _signed(state: State, item: Object, author: Author | None) -> Object:
    if "updated_by" not in item.__struct_fields__:
        return item
    old = state.of(kind_of(item)).get(item.id)
    is_version = old is None or old.version != item.version
    return replace(item, updated_by=author) if is_version else item


def target_of(state: State, writes: Writes) -> Target | None:
    """What the change is about: what it removes, as others lose something with it; else the object
    that it puts last, as others are prerequisites, the cluster, or a task. None: nothing changes.
    """
    if _puts_its_target(writes):
        return _object_target(state, writes.objects[-1])
    if writes.removed:
        kind_name, object_id = split_name(writes.removed[0])
        kind = KINDS[kind_name]
        old = state.of(kind).get(object_id)
        title = kind.title(old) if old else ""
        return Target(writes.removed[0], kind_name, object_id, title, old, None)
    if writes.cluster is not None:
        return Target(
            CLUSTER.name, CLUSTER.name, writes.cluster.id, "", state.cluster, writes.cluster
        )
    if writes.tasks:
        task = writes.tasks[0]
        return _task_target(state, state.tasks.get(task.id), task)
    if writes.removed_tasks:
        old_task = state.tasks[writes.removed_tasks[0]]
        return _task_target(state, old_task, None)
    return None


def _puts_its_target(writes: Writes) -> bool:
    """Whether the object that is put last is what the change is about: nothing is removed, or older
    versions of it are.
    """
    if not writes.removed or not writes.objects:
        return bool(writes.objects)
    kind_name, _ = split_name(writes.removed[0])
    return kind_of(writes.objects[-1]).name == kind_name


def names_beside(writes: Writes) -> tuple[str, ...]:
    """The objects that a change puts or removes along with its target."""
    put = tuple(kind_of(item).object_name(item.id) for item in writes.objects)
    if _puts_its_target(writes):
        return (*put[:-1], *writes.removed)
    return (*put, *writes.removed[1:])


def _object_target(state: State, item: Object) -> Target:
    kind = kind_of(item)
    old = state.of(kind).get(item.id)
    return Target(kind.object_name(item.id), kind.name, item.id, kind.title(item), old, item)


def _task_target(state: State, old: Task | None, new: Task | None) -> Target:
    task = new or old
    assert task is not None
    service = state.services.get(task.service_id)
    key = chunk_of(task.service_id, task.slot)
    name = f"chunk/{key.service_id}/{key.block:08d}"
    return Target(name, "task", task.id, service.name_of(task) if service else "", old, new)


def record_of(state: State, writes: Writes, target: Target, bare: AuditRecord) -> AuditRecord:
    """The bare record with the changed fields, computed with the state before the change."""
    record = _with_changes(bare, (*_changes(target), *_beside(state, writes, target)))
    return _with_details(record, _of_stack(state, writes)) if target.kind == STACK.name else record


def bare_record_of(target: Target, caller: Caller, now: Instant, verb: str = "") -> AuditRecord:
    """The record of a change without the changed fields. The sequence is still 0."""
    after = target.after
    return replace(
        _record(caller, now, _verb(target, verb)),
        object_kind=target.kind,
        object_id=clipped(target.id, _TEXT_BYTES),
        object_name=clipped(target.title, _TEXT_BYTES),
        version=after.version.index if isinstance(after, Object) else 0,
    )


def action_of(
    caller: Caller, now: Instant, verb: str, ref: str, about: Iterable[FieldChange] = ()
) -> AuditRecord:
    """The record of an action that changed no object. `ref` is the object as the caller named it:
    `web.1`, `user/alice`; `about` is what was requested, of which secrets are masked.
    """
    kind, slash, name = ref.partition("/")
    if not slash or kind not in (*KINDS, "task"):
        kind, name = verb.partition(" ")[0], ref
    kind = kind if kind in KINDS or kind in ("task", "image") else ""
    record = replace(
        _record(caller, now, verb),
        object_kind=kind,
        object_name=clipped(without_secrets(name), _TEXT_BYTES),
    )
    masked = [replace(one, after=without_secrets(one.after)) for one in about]
    return _with_changes(record, masked) if masked else record


def refusal_of(caller: Caller, now: Instant, verb: str, ref: str, error: str) -> AuditRecord:
    """The record of a request that changed nothing; `ref` as above."""
    record = action_of(caller, now, verb, ref)
    return replace(record, result=clipped(without_secrets(error), _RESULT_BYTES))


def _record(caller: Caller, now: Instant, verb: str) -> AuditRecord:
    return AuditRecord(
        sequence=0,
        at=now,
        caller_kind=caller.kind.value,
        caller_id=clipped(caller.id, _TEXT_BYTES),
        caller=clipped(caller.name, _TEXT_BYTES),
        role=caller.role.value if caller.role else "",
        address=clipped(caller.address, _TEXT_BYTES),
        verb=clipped(verb, _TEXT_BYTES),
    )


def _verb(target: Target, called: str) -> str:
    """The verb of a change; of an update of a service the command that makes this change."""
    old, new = target.before, target.after
    if called == UPDATE and isinstance(old, Service) and isinstance(new, Service):
        return update_verb(old.spec, new.spec)
    if called:
        return called
    if new is None or (isinstance(new, Service) and new.removing):
        return f"{target.kind} rm"
    return f"{target.kind} {'create' if old is None else 'update'}"


def update_verb(old: ServiceSpec, new: ServiceSpec) -> str:
    """The command that makes this change and no other."""
    if old == new:
        return UPDATE
    if replace(old, stopped=new.stopped) == new:
        return "service stop" if new.stopped else "service start"
    are_replicated = isinstance(old.mode, ReplicatedMode) and isinstance(new.mode, ReplicatedMode)
    if are_replicated and replace(old, mode=new.mode) == new:
        return "service scale"
    networks = new.task_template.networks
    if replace(old, task_template=replace(old.task_template, networks=networks)) == new:
        joined, left = networking.moves(old, new)
        if bool(joined) != bool(left):
            return "network connect" if joined else "network disconnect"
    forced = replace(old.task_template, force_update=new.task_template.force_update)
    return "service restart" if replace(old, task_template=forced) == new else UPDATE


def _changes(target: Target) -> Iterator[FieldChange]:
    """The changed fields of the object itself."""
    old, new = target.before, target.after
    if isinstance(new, Task):
        before = old.desired_state.word if isinstance(old, Task) else ""
        yield FieldChange(field="DesiredState", before=before, after=new.desired_state.word)
    if not isinstance(new, Object):
        return
    if isinstance(new, Stack):
        before = str(old.spec_version) if isinstance(old, Stack) else ""
        yield FieldChange(field="SpecVersion", before=before, after=str(new.spec_version))
        return
    kind = kind_of(new)
    shown: Any = kind.shown(new)
    known: Any = kind.shown(old) if isinstance(old, Object) else None
    yield from differences(known.spec if known else None, shown.spec)
    yield from _secrets(kind, old, new)
    if isinstance(old, Volume) and isinstance(new, Volume):
        yield from _moves(old, new)


def _moves(old: Volume, new: Volume) -> Iterator[FieldChange]:
    """Where a volume is moved, and the ids of nodes whose copies it has or gave up."""
    for field, before, after in (
        ("Move.To", old.work.to if old.work else "", new.work.to if new.work else ""),
        ("Copies", ",".join(old.copies), ",".join(new.copies)),
        ("Forgotten", ",".join(old.forgotten), ",".join(new.forgotten)),
    ):
        if before != after:
            yield FieldChange(field=field, before=before, after=after)


def _secrets(kind: Kind[Any, Any], old: object, new: Object) -> Iterator[FieldChange]:
    """That sensitive fields changed; of tokens of users the ids of those that did."""
    for path in kind.sensitive:
        before, after = _at(old, path), _at(new, path)
        if before == after:
            continue
        field = ".".join(map(docker_name, path.removeprefix("spec.").split(".")))
        texts = _masked(before), _masked(after)
        if isinstance(new, User):
            texts = _ids_beside(before, after), _ids_beside(after, before)
        if any(texts):  # a new object has no empty field that was none
            yield FieldChange(field=field, before=texts[0], after=texts[1])


def _at(item: Any, path: str) -> Any:
    for name in path.split("."):
        item = getattr(item, name, None)
    return item


def _ids_beside(tokens: tuple[UserToken, ...] | None, others: tuple[UserToken, ...] | None) -> str:
    """The short ids of the tokens that are not among the others."""
    known = {token.id for token in others or ()}
    return ", ".join(short(token.id) for token in tokens or () if token.id not in known)


def _masked(value: Any) -> str:
    return MASK if value else ""


def _beside(state: State, writes: Writes, target: Target) -> Iterator[FieldChange]:
    """The other objects that the change creates, changes or removes."""
    for item in writes.objects if writes.removed else writes.objects[:-1]:
        kind = kind_of(item)
        word = "created" if item.id not in state.of(kind) else "updated"
        yield FieldChange(field=f"{kind.name} {kind.title(item)}", after=word)
    for name in writes.removed:
        if name != target.name:
            kind_name, object_id = split_name(name)
            old = state.of(KINDS[kind_name]).get(object_id)
            title = KINDS[kind_name].title(old) if old else object_id
            yield FieldChange(field=f"{kind_name} {title}", after="removed")


def _of_stack(state: State, writes: Writes) -> Iterator[FieldChange]:
    """What changes in the services of a stack that exist: about 1 ms for each. `_beside` names
    them.
    """
    for service in writes.of(SERVICE):
        old = state.services.get(service.id)
        if old is not None and old.spec != service.spec:
            yield from differences(old.spec, service.spec, f"service {service.spec.name} ")


def _with_changes(record: AuditRecord, changes: Iterable[FieldChange]) -> AuditRecord:
    """The record with as many changes as fit."""
    left, omitted = _room(record), 0
    kept: list[FieldChange] = []
    for change in changes:
        if omitted:
            omitted += 1
            continue
        short = _short(change)
        left -= _bytes_of(short)
        if left < 0:
            omitted += 1
        else:
            kept.append(short)
    return replace(record, changes=tuple(kept), omitted=omitted, result=OK)


def _with_details(record: AuditRecord, details: Iterator[FieldChange]) -> AuditRecord:
    """The record with as many further changes as fit. Those beyond the first that does not are
    neither computed nor counted.
    """
    left = _room(record) - sum(map(_bytes_of, record.changes))
    kept = [*record.changes]
    while not record.omitted and (change := next(details, None)) is not None:
        short = _short(change)
        left -= _bytes_of(short)
        if left < 0:
            return replace(record, changes=tuple(kept), omitted=1)
        kept.append(short)
    return replace(record, changes=tuple(kept))


def _room(record: AuditRecord) -> int:
    """The bytes that all changes of the record may have."""
    texts = (
        record.caller_id,
        record.caller,
        record.address,
        record.verb,
        record.object_id,
        record.object_name,
    )
    used = sum(len(text.encode()) for text in texts)
    return AUDIT_RECORD_BYTES - _RECORD_BYTES - _RESULT_BYTES - used


def _short(change: FieldChange) -> FieldChange:
    return FieldChange(
        field=clipped(change.field, AUDIT_VALUE_BYTES),
        before=clipped(change.before, AUDIT_VALUE_BYTES),
        after=clipped(change.after, AUDIT_VALUE_BYTES),
    )


def _bytes_of(change: FieldChange) -> int:
    texts = (change.field, change.before, change.after)
    return _CHANGE_BYTES + sum(len(text.encode()) for text in texts)
