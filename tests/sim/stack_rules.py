"""Stacks: what their users requested, and the rules about what is stored of them.

A stack may be stored before its objects while it is marked as being applied, and secrets and
configs before the stack. Everything else is seen as a whole: docs/decisions/0036-stacks.md.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from pyswarm_core.kinds import CONFIG, KINDS, NETWORK, SECRET, SERVICE, STACK, Kind
from pyswarm_core.objects import Service, Task
from pyswarm_core.specs import ReplicatedMode, ServiceSpec
from pyswarm_core.stacks.spec import StackSpec
from pyswarm_core.stacks.stack import Stack, StackContent, StackId
from pyswarm_core.states import UpdateState, is_terminal
from tests.sim.marks import Marks
from tests.sim.membership import stack_of
from tests.sim.rollout_states import is_new, is_paused, is_rolling
from tests.sim.rules import Rule
from tests.sim.view import Change, View

PAYLOADS: tuple[Kind[Any, Any], ...] = (SECRET, CONFIG)
_LABELLED: tuple[Kind[Any, Any], ...] = (SERVICE, NETWORK, *PAYLOADS)
_BACK = (
    UpdateState.ROLLBACK_STARTED,
    UpdateState.ROLLBACK_PAUSED,
    UpdateState.ROLLBACK_COMPLETED,
)


class Shape(msgspec.Struct, frozen=True):
    """What users see of a service of a stack."""

    name: str
    image: str
    replicas: int
    depends_on: tuple[tuple[str, str, bool, bool], ...]
    ports: tuple[int, ...]
    """Published ones."""
    uses: tuple[tuple[str, str], ...]
    """Secrets and configs, and where their files are."""


Shapes = tuple[Shape, ...]


def shape_of(spec: ServiceSpec) -> Shape:
    """The shape of a service."""
    container = spec.task_template.container_spec
    return Shape(
        spec.name,
        container.image,
        spec.mode.replicas if isinstance(spec.mode, ReplicatedMode) else -1,
        tuple(sorted((d.service, d.condition, d.restart, d.required) for d in spec.depends_on)),
        tuple(port.published_port for port in spec.endpoint_spec.ports),
        tuple(sorted((one.path, one.source) for one in container.references)),
    )


def shapes_of(spec: StackSpec | StackContent) -> Shapes:
    """Those of all services, by their names."""
    return tuple(sorted(map(shape_of, spec.services), key=lambda one: one.name))


def numbers_of(spec: ServiceSpec) -> dict[str, int]:
    """The versions of secrets and configs that a service uses, by the places of their files."""
    return {one.path: one.number for one in spec.task_template.container_spec.references}


class Sent(msgspec.Struct, frozen=True):
    """What a request makes of a stack."""

    shapes: Shapes
    prunes: bool = False
    data: dict[tuple[str, str], bytes] = {}
    """Of secrets and configs, by kind and name; empty: those that are there."""


class StackRequests:
    """What users sent about stacks and what they were promised."""

    def __init__(self) -> None:
        self.decided: dict[tuple[StackId, int], list[Sent]] = {}
        """What leaders decided, by the stack and its version index. A leader that was deposed may
        have decided another one of the same index.
        """
        self.promised: dict[StackId, int] = {}
        """The version index that was acknowledged."""
        self.removals: dict[StackId, None] = {}
        self.promised_removals: dict[StackId, None] = {}
        self.unsure: dict[str, int] = {}
        """How many applies of a stack were sent whose success was not answered."""
        self.scaled: dict[str, dict[int, None]] = {}
        """Numbers of replicas that users set by hand, by service."""


class StacksAreWhole:
    """After every revision, a stack that is not being applied or removed has the services of its
    version, and one that is being applied has no service of a version that is not stored.
    """

    rule = Rule.STACKS

    def __init__(self, requests: StackRequests, marks: Marks) -> None:
        self._requests = requests
        self._marks = marks
        self._by: dict[StackId, object] = {}
        """Who stored the version that is being applied."""

    def broken_by(self, change: Change, view: View) -> Iterator[str]:
        """See `Law`."""
        touched = dict.fromkeys(
            name
            for kind, old, new in change.objects
            if (name := new.spec.name if isinstance(new, Stack) else stack_of(kind, new or old))
        )
        if not touched:
            return
        stacks = {one.spec.name: one for one in view.of(STACK).values()}
        for old, new in change.of(STACK):
            yield from self._stack(change, old, new)
        for was, now in change.of(SERVICE):
            if now is not None and (name := stack_of(SERVICE, now)):
                yield from self._service(was, now, stacks.get(name))
        for before, network in change.of(NETWORK):
            name = stack_of(NETWORK, network) if before is None else ""
            if network is not None and name and not _has(stacks.get(name), network.spec.name):
                yield f"network {network.spec.name} is stored, and not its stack"
        for name in touched:
            if (stack := stacks.get(name)) is not None and not stack.removing:
                yield from _versions(stack, view)
                if not stack.applying:
                    yield from whole(stack, view, self._requests)

    def _stack(self, change: Change, old: Stack | None, new: Stack | None) -> Iterator[str]:
        requests = self._requests
        if new is None:
            if old is not None and old.id not in requests.removals:
                yield f"stack {old.spec.name} was removed, and nobody asked for it"
            return
        name, index = new.spec.name, new.version.index
        if index < max(old.version.index if old else 0, requests.promised.get(new.id, 0)):
            yield f"stack {name} went back to version {index}"
        if new.removing:
            if new.id not in requests.removals:
                yield f"stack {name} is being removed, and nobody asked for it"
            return
        if not _sent(new, requests):
            yield f"stack {name} has a content that nobody sent: {shapes_of(new.spec)}"
        if new.applying and (old is None or old.version != new.version):
            self._by[new.id] = change.process
        elif old is not None and old.applying and self._by.get(new.id) is not change.process:
            self._marks.hit("stack completed by another leader")

    def _service(self, old: Service | None, new: Service, stack: Stack | None) -> Iterator[str]:
        name = new.spec.name
        if new.removing:
            begins = old is not None and not old.removing
            if begins and _keeps(stack, name):
                yield f"service {name} is being removed, and its stack has it"
            return
        if old is not None and (self._is_as(new.spec, old.spec) or _is_back(new)):
            return
        if stack is None:
            yield f"service {name} is stored, and not its stack"
            return
        wanted = next((one for one in stack.spec.services if one.name == name), None)
        if wanted is None and self._was_sent(stack, new.spec):
            return  # two applies were stored in one turn, and the second one does not prune
        if wanted is None or not self._is_as(new.spec, wanted):
            yield f"service {name} is stored as {shape_of(new.spec)}, and not its stack"

    def _was_sent(self, stack: Stack, spec: ServiceSpec) -> bool:
        """Whether an earlier version of the stack had the service."""
        return any(
            shape_of(spec) in sent.shapes
            for (stack_id, index), requests in self._requests.decided.items()
            if stack_id == stack.id and index < stack.version.index
            for sent in requests
        )

    def _is_as(self, spec: ServiceSpec, wanted: ServiceSpec) -> bool:
        return is_as(spec, wanted, self._requests)


def _keeps(stack: Stack | None, service: str) -> bool:
    """Whether a stack has the service, and is neither being applied nor removed."""
    if stack is None or stack.removing or stack.applying:
        return False
    return any(one.name == service for one in stack.spec.services)


def _has(stack: Stack | None, network: str) -> bool:
    """Whether the stack has or had the network."""
    if stack is None:
        return False
    contents = (stack.spec, *(one.spec for one in stack.previous_specs))
    return any(one.name == network for content in contents for one in content.networks)


def _is_back(service: Service) -> bool:
    """Whether a failed update was rolled back."""
    status = service.update_status
    return status is not None and status.state in _BACK


def is_as(spec: ServiceSpec, wanted: ServiceSpec, requests: StackRequests) -> bool:
    """Whether a service is what its stack says, but for replicas that were set by hand."""
    has, shape = shape_of(spec), shape_of(wanted)
    by_hand = has.replicas in requests.scaled.get(spec.name, ())
    return has == (msgspec.structs.replace(shape, replicas=has.replicas) if by_hand else shape)


def _sent(stack: Stack, requests: StackRequests) -> list[Sent]:
    """The requests that may have made this version of the stack."""
    shapes = shapes_of(stack.spec)
    decided = requests.decided.get((stack.id, stack.version.index), ())
    return [one for one in decided if one.shapes == shapes]


def _versions(stack: Stack, view: View) -> Iterator[str]:
    """Versions of secrets and configs that the stack has and the store has not."""
    for kind, versions in zip(PAYLOADS, (stack.spec.secrets, stack.spec.configs), strict=True):
        stored = {(one.spec.name, one.number) for one in view.of(kind).values()}
        for one in versions:
            if (one.spec.name, one.number) not in stored:
                title = f"{kind.name} {one.spec.name}@{one.number}"
                yield f"stack {stack.spec.name} has {title}, which is not stored"


def whole(stack: Stack, view: View, requests: StackRequests) -> Iterator[str]:
    """What a stack lacks that is not being applied."""
    services = {one.spec.name: one for one in view.services.values() if not one.removing}
    networks = {one.spec.name for one in view.networks.values()}
    for wanted in stack.spec.services:
        service = services.get(wanted.name)
        if service is None:
            yield f"{wanted.name} is not there"
        elif not _is_back(service) and not (
            is_as(service.spec, wanted, requests) and numbers_of(service.spec) == numbers_of(wanted)
        ):
            yield f"{wanted.name} is not as its stack says: {service.spec}, not {wanted}"
    for network in stack.spec.networks:
        if network.name not in networks:
            yield f"network {network.name} is not there"


def unsettled(
    view: View, requests: StackRequests, is_held: Callable[[Service], bool]
) -> Iterator[str]:
    """What is not as the last apply that was accepted said, or left of what was removed. `is_held`:
    services that cannot be removed because a host is lost.
    """
    stacks = view.of(STACK)
    held = {stack_of(SERVICE, one) for one in view.services.values() if is_held(one)}
    for stack_id, index in requests.promised.items():
        stack = stacks.get(stack_id)
        if stack is None and stack_id not in requests.removals:
            yield f"stack {stack_id} was promised and is gone"
        elif stack is not None and stack.version.index < index:
            yield f"stack {stack.spec.name} forgot promised version {index}"
    for stack_id in requests.promised_removals:
        if stack_id in stacks and stacks[stack_id].spec.name not in held:
            yield f"stack {stacks[stack_id].spec.name} was removed and is still there"
    for stack in stacks.values():
        if stack.is_unfinished and stack.spec.name not in held and not _is_updating(stack, view):
            yield f"stack {stack.spec.name} is not complete: {stack.leaving}"
        if not stack.removing:
            yield from whole(stack, view, requests)
            yield from _data(stack, view, requests)
            if stack.spec.name not in held and not _is_updating(stack, view):
                yield from _left(stack, view, requests)
    yield from _orphans(view, requests, {one.spec.name for one in stacks.values()})


def _is_updating(stack: Stack, view: View) -> bool:
    """Whether tasks of an earlier spec may use what the stack no longer has, for as long as an
    update is not completed.
    """
    own = [one for one in view.services.values() if stack_of(SERVICE, one) == stack.spec.name]
    return any(
        is_paused(one) or is_rolling(one) or any(_is_outdated(one, view.slots_of(one.id)))
        for one in own
    )


def _is_outdated(service: Service, slots: Mapping[int, list[Task]]) -> Iterator[bool]:
    for held in slots.values():
        for task in held:
            yield not is_terminal(task.state) and not is_new(service, task)


def _data(stack: Stack, view: View, requests: StackRequests) -> Iterator[str]:
    """Secrets and configs whose data is not that of the request."""
    stored = {
        (kind.name, one.spec.name, one.number): one.data
        for kind in PAYLOADS
        for one in view.of(kind).values()
    }
    has = {
        (kind.name, one.spec.name): stored.get((kind.name, one.spec.name, one.number), b"")
        for kind, versions in zip(PAYLOADS, (stack.spec.secrets, stack.spec.configs), strict=True)
        for one in versions
    }
    sent = _sent(stack, requests)
    if sent and all(one.data and one.data != has for one in sent):
        yield f"stack {stack.spec.name} has the data {has}, and {sent} were sent"


def _of_later_applies(stack: Stack, requests: StackRequests) -> set[tuple[str, str]]:
    """The secrets and configs of applies that were decided and not stored: a leader may have died
    when it had stored those alone.
    """
    return {
        key
        for (stack_id, index), sent in requests.decided.items()
        if stack_id == stack.id and index > stack.version.index
        for one in sent
        for key in one.data
    }


def _left(stack: Stack, view: View, requests: StackRequests) -> Iterator[str]:
    """What an apply with `prune` has left."""
    if not all(one.prunes for one in _sent(stack, requests)):
        return
    content = stack.spec
    named: dict[str, Iterable[str]] = {
        SERVICE.name: [one.name for one in content.services],
        NETWORK.name: [one.name for one in content.networks],
        SECRET.name: [one.spec.name for one in content.secrets],
        CONFIG.name: [one.spec.name for one in content.configs],
    }
    later = _of_later_applies(stack, requests)
    for kind, name in _labelled(view, stack.spec.name):
        if name not in named[kind.name] and (kind.name, name) not in later:
            yield f"{kind.name} {name} was pruned and is still there"


def _labelled(view: View, stack: str) -> Iterator[tuple[Kind[Any, Any], str]]:
    """The objects with the label of a stack, but for those that are being removed."""
    for kind in _LABELLED:
        for item in view.of(kind).values():
            if stack_of(kind, item) == stack and not getattr(item, "removing", False):
                yield kind, item.spec.name


def _networks_of(service: Service) -> Iterable[str]:
    return service.spec.task_template.overlays


def _orphans(view: View, requests: StackRequests, stacks: set[str]) -> Iterator[str]:
    """Objects of stacks that do not exist. Secrets and configs may have been stored before a stack
    that its leader did not get to, and a network stays that services of others have joined.
    """
    joined = {one for service in view.services.values() for one in _networks_of(service)}
    for kind in KINDS.values():
        for item in view.of(kind).values():
            name = stack_of(kind, item) if kind is not STACK else ""
            if not name or name in stacks or getattr(item, "removing", False) or item.id in joined:
                continue
            if kind not in PAYLOADS or not requests.unsure.get(name):
                yield f"{kind.name} {item.id} is left of stack {name}"
