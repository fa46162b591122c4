"""The change of a stack under construction. PURE (mutable)."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

from msgspec.structs import replace

from controller.api.stacking.overlay import Overlay
from controller.brain.payloads import kind_of_reference
from controller.brain.slices import Slices, batches
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, InvalidArgument, PyswarmError, Taken, Unavailable, quoted
from pyswarm_core.identity.users import STACK_LABEL
from pyswarm_core.ids import IdSource, ServiceId
from pyswarm_core.kinds import (
    CONFIG,
    NETWORK,
    SECRET,
    SERVICE,
    STACK,
    VOLUME,
    Kind,
    ObjectName,
    kind_of,
)
from pyswarm_core.limits import SLICE_OBJECTS
from pyswarm_core.objects import Object
from pyswarm_core.specs import RegistryLogin
from pyswarm_core.stacks.changes import Action, StackChange
from pyswarm_core.stacks.labels import CONTAINER_NAME
from pyswarm_core.stacks.limits import DIFFERENCES_MAX
from pyswarm_core.stacks.stack import PendingService, Stack, StackMember
from pyswarm_core.state import State

OF_STACKS: tuple[Kind[Any, Any], ...] = (NETWORK, VOLUME, SECRET, CONFIG, SERVICE)
"""The kinds of objects that stacks consist of, in the order in which they are created."""
Owned = dict[str, dict[str, Object]]
"""The objects of a stack, by kind and id; not those that are being removed."""


class Work:
    """The state after the steps so far, and what they write and answer."""

    def __init__(
        self, state: State, name: str, routes: Iterable[str], now: Instant, ids: IdSource
    ) -> None:
        self.state = Overlay(state)
        self.base = state
        self.name = name
        self.routes = tuple(routes)
        self.now = now
        self.ids = ids
        self.changes: list[StackChange] = []
        self.stale: list[StackMember] = []
        """Former versions of secrets and configs, which go unless something may return to them."""
        self.container_names: dict[str, list[ServiceId]] = {}
        """The services that have, or had, each `container_name`."""
        self.users: dict[tuple[str, str], list[ServiceId]] = {}
        """The services that have a secret or config, by its kind and name."""
        stack = self.stack
        is_unfinished = stack is not None and stack.applying
        self.pending = {one.name: one for one in stack.pending} if stack and is_unfinished else {}
        """What services get beside their specs, also by a change that is not all stored."""
        self.logins = {one.registry: one for one in stack.logins} if stack and is_unfinished else {}
        self._objects: dict[ObjectName, Object] = {}
        self._removed: dict[ObjectName, None] = {}

    @property
    def stack(self) -> Stack | None:
        """The stack as it is stored; None: it is new."""
        stack_id = self.base.ids_of_names(STACK).get(self.name)
        return None if stack_id is None else self.base.of(STACK)[stack_id]

    def look(self) -> Slices[None]:
        """Find what services have by name, once for all objects of the change."""
        for batch in batches(list(self.base.services.values()), SLICE_OBJECTS):
            for service in batch:
                if name := service.spec.labels.get(CONTAINER_NAME, ""):
                    self.container_names.setdefault(name, []).append(service.id)
                for one in service.spec.task_template.container_spec.references:
                    key = kind_of_reference(one).name, one.source
                    self.users.setdefault(key, []).append(service.id)
            yield

    def pend(
        self,
        name: str,
        *,
        force_update: int = 0,
        by_hand: int | None = None,
        login: RegistryLogin | None = None,
    ) -> None:
        """Record what the service gets beside its spec, for a leader that completes the change.
        `by_hand`: the number of replicas that ends.
        """
        known = self.pending.get(name, PendingService(name=name))
        pending = replace(known, force_update=max(known.force_update, force_update))
        if by_hand is not None:
            pending = replace(pending, resets_scale=True, by_hand=by_hand)
        if login is not None:
            pending = replace(pending, registry=login.registry)
            self.logins[login.registry] = login
        if pending != known:
            self.pending[name] = pending

    def write(self, writes: Writes) -> None:
        """Apply the writes of a step."""
        self.state.apply(writes)
        for item in writes.objects:
            name = kind_of(item).object_name(item.id)
            self._objects.pop(name, None)
            self._objects[name] = item
        for gone in writes.removed:
            self._objects.pop(gone, None)
            self._removed[gone] = None

    def tell(
        self,
        action: Action,
        kind: Kind[Any, Any],
        name: str,
        object_id: str = "",
        *,
        reason: str = "",
        difference: Iterable[str] = (),
    ) -> None:
        """Add what becomes of an object to the answer."""
        lines = list(difference)
        if len(lines) > DIFFERENCES_MAX:
            more = len(lines) - DIFFERENCES_MAX
            lines[DIFFERENCES_MAX:] = [f"{more} more"]
        change = StackChange(
            kind=kind.name,
            name=name,
            id=object_id,
            action=action,
            reason=reason,
            difference=tuple(lines),
        )
        self.changes.append(change)

    def written(self, last: Object | None = None) -> Writes:
        """All that the steps write, with that object as the last one."""
        objects = (*self._objects.values(), *((last,) if last is not None else ()))
        cluster = self.state.cluster if self.state.cluster is not self.base.cluster else None
        return Writes(cluster=cluster, objects=objects, removed=tuple(self._removed))

    def require_own(self, kind: Kind[Any, Any], item: Object) -> None:
        """Raise Conflict unless an object that exists belongs to the stack."""
        owner = kind.labels(item).get(STACK_LABEL, "")
        if owner == self.name:
            return
        what = f"{kind.name} {quoted(kind.title(item).partition('@')[0])} exists already"
        whose = f"belongs to stack {quoted(owner)}" if owner else "belongs to no stack"
        use = "give it another name" if kind is SERVICE else "declare it external, or rename it"
        hidden = f"{what}, outside your stacks: {use}"
        raise Taken(f"{what} and {whose}: {use}", item.id, hidden)


def is_removing(item: Object) -> bool:
    """Whether a service or volume is being removed: its name is free."""
    return bool(getattr(item, "removing", False))


def owned_by(state: State, name: str) -> Slices[Owned]:
    """The objects with the label of the stack."""
    found: Owned = {kind.name: {} for kind in OF_STACKS}
    for kind in OF_STACKS:
        for batch in batches(list(state.of(kind).values()), SLICE_OBJECTS):
            for item in batch:
                if kind.labels(item).get(STACK_LABEL) == name and not is_removing(item):
                    found[kind.name][item.id] = item
            yield
    return found


def revision_of(stack: Stack | None, owned: Owned) -> int:
    """A number that differs once a user has changed something of the stack; never 0."""
    lines = [f"stack/{stack.id}/{stack.version.index}"] if stack is not None else []
    for kind, objects in owned.items():
        lines += sorted(f"{kind}/{item.id}/{item.version.index}" for item in objects.values())
    digest = blake2b("\n".join(lines).encode(), digest_size=8).digest()
    return int.from_bytes(digest) or 1


def _is_of_stack(work: Work, object_id: str) -> bool:
    """Whether the object is one of the stack, which the same change may create."""
    items = (work.state.of(kind).get(object_id) for kind in OF_STACKS)
    return any(one and kind_of(one).labels(one).get(STACK_LABEL) == work.name for one in items)


@contextmanager
def about(work: Work, kind: str, name: str) -> Iterator[None]:
    """Errors of the block say which object of the stack they are about."""
    try:
        yield
    except PyswarmError as error:
        if isinstance(error, Taken) and _is_of_stack(work, error.holder):
            error = Conflict(str(error))
        text, what = str(error), f"{kind} {quoted(name)}"
        if what in text or isinstance(error, Unavailable):
            raise error from None
        if isinstance(error, Taken):
            raise error.about(what) from None
        cls = type(error) if type(error) in (InvalidArgument, Conflict) else InvalidArgument
        raise cls(f"{what}: {text}") from None
