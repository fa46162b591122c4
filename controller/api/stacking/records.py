"""What a stack keeps of its versions. PURE."""

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec.structs import replace

from controller.api.payloads.changes import PayloadKind
from controller.api.stacking.work import Work
from controller.brain.revisions import RECORD_BYTES_MAX
from controller.brain.slices import Slices
from controller.brain.storable import require_storable
from pyswarm_core.clock import Instant
from pyswarm_core.errors import quoted
from pyswarm_core.kinds import CONFIG, NETWORK, SECRET, SERVICE, VOLUME, Kind, encode
from pyswarm_core.objects import Version
from pyswarm_core.stacks.limits import STACK_VERSIONS_KEPT
from pyswarm_core.stacks.spec import StackPayload
from pyswarm_core.stacks.stack import (
    PreviousStack,
    Stack,
    StackContent,
    StackId,
    StackMember,
    StackPayloadVersion,
)

_FRAME = 128
"""More than the bytes of an earlier version beside its content."""


def versions_of(
    work: Work, kind: PayloadKind, given: Iterable[StackPayload]
) -> tuple[StackPayloadVersion, ...]:
    """The newest versions of the secrets or configs."""
    versions = []
    for one in sorted(given, key=lambda one: one.spec.name):
        number = max(work.state.payloads[kind.name].of(one.spec.name))
        versions.append(StackPayloadVersion(spec=one.spec, number=number))
    return tuple(versions)


def recorded(
    work: Work, content: StackContent, leaving: tuple[StackMember, ...]
) -> Slices[Stack | None]:
    """The stack with its next version; None if nothing changes. Earlier versions are kept as far as
    they fit.

    Raises InvalidArgument: the content does not fit into the store.
    """
    old = work.stack
    if old is None:
        (drawn,) = work.ids.draw(1)
        stack = Stack(
            id=StackId(drawn),
            spec=content,
            version=Version(index=1),
            created_at=work.now,
            updated_at=work.now,
            applied_at=work.now,
        )
    elif content == old.spec and not work.written() and all(o in old.leaving for o in leaving):
        return None
    else:
        stack = replace(old, version=Version(index=old.version.index + 1), updated_at=work.now)
        if content != old.spec:
            stack = _next_version(old, stack, content, work.now)
    yield
    members = tuple(_members(work, content))
    names = [one.name for one in content.services]
    pending = tuple(work.pending[name] for name in names if name in work.pending)
    registries = dict.fromkeys(one.registry for one in pending if one.registry)
    stack = replace(
        stack,
        members=members,
        leaving=leaving,
        applying=True,
        pending=pending,
        logins=tuple(work.logins[one] for one in registries),
    )
    alone = replace(stack, previous_specs=())
    room = RECORD_BYTES_MAX - require_storable(
        f"stack {quoted(content.name)}", alone, RECORD_BYTES_MAX
    )
    kept = yield from _kept(stack.previous_specs, room)
    return replace(stack, previous_specs=kept)


def _next_version(old: Stack, stack: Stack, content: StackContent, now: Instant) -> Stack:
    previous = PreviousStack(
        version=old.spec_version,
        spec=old.spec,
        created_at=old.applied_at,
        updated_by=old.updated_by,
    )
    return replace(
        stack,
        spec=content,
        spec_version=old.spec_version + 1,
        applied_at=now,
        previous_specs=(previous, *old.previous_specs)[:STACK_VERSIONS_KEPT],
    )


def _kept(previous: Iterable[PreviousStack], room: int) -> Slices[tuple[PreviousStack, ...]]:
    """The newest versions that fit."""
    found = []
    for one in previous:
        yield
        room -= len(encode(Stack(id=StackId(""), spec=one.spec))) + _FRAME
        if room < 0:
            break
        found.append(one)
    return tuple(found)


def _members(work: Work, content: StackContent) -> Iterator[StackMember]:
    state = work.state
    named: tuple[tuple[Kind[Any, Any], Iterable[Any]], ...] = (
        (NETWORK, content.networks),
        (VOLUME, content.volumes),
        (SERVICE, content.services),
    )
    for kind, specs in named:
        ids = state.ids_of_names(kind)
        for spec in specs:
            if (object_id := ids.get(spec.name)) is not None:
                yield StackMember(kind=kind.name, id=object_id, name=spec.name)
    for kind_name, versions in ((SECRET.name, content.secrets), (CONFIG.name, content.configs)):
        for one in versions:
            newest = state.payloads[kind_name].newest(one.spec.name)
            if newest is not None:
                yield StackMember(kind=kind_name, id=newest, name=one.spec.name)
