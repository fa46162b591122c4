"""The objects that a request names, or makes, must belong to its caller's stacks. PURE.

Each function returns the ids of what the request names, by field; see `authorize_request`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from google.protobuf.message import Message

from controller.api.changes.services import rollback_target
from controller.api.payloads.changes import require_removable
from controller.api.queries.lookup import (
    find,
    find_container,
    find_service_or_task,
    find_task,
    kind_named,
)
from controller.api.stacking.finish import owned_by_label_alone
from controller.api.stacking.finish import rollback_target as stack_rollback_target
from controller.api.stacking.meaning import spec_of
from controller.brain.mounts import volumes_of_spec
from controller.brain.payloads import kind_of_reference
from controller.brain.slices import Slices, batches
from controller.brain.volumes import volume_named
from controller.identity.caller import Caller, Role
from controller.identity.policy import (
    STACK_LABEL,
    Named,
    Rule,
    in_stacks,
    require_label,
    require_stack,
    require_unlimited,
    title,
)
from pyswarm_core.codec import from_proto
from pyswarm_core.errors import InvalidArgument, NotFound, PermissionDenied, quoted
from pyswarm_core.gotemplate.fault import Fault
from pyswarm_core.ids import ServiceId
from pyswarm_core.kinds import (
    CONFIG,
    NETWORK,
    NODE,
    SECRET,
    SERVICE,
    STACK,
    USER,
    VOLUME,
    Id,
    Item,
    Kind,
)
from pyswarm_core.objects import Object, Service, Task
from pyswarm_core.payloads.payload import Payload, PayloadId
from pyswarm_core.specs import PREDEFINED_NETWORKS, NetworkSpec, ServiceSpec
from pyswarm_core.stacks.spec import StackPayload, StackSpec
from pyswarm_core.state import State
from pyswarm_core.templates.context import shows_plainly
from pyswarm_core.validation.templates.problems import OF_NODE
from pyswarm_core.volumes.volume import VolumeSpec

_NEW = ServiceId("0" * 25)
"""Stands for the id of a service that is created."""
_LATER = (".Service.ID", *OF_NODE)
NO_STACKS = (NODE.name, USER.name)
"""Kinds whose objects belong to no stack."""
SERVICES_AT_ONCE = 25
"""Services of a stack in one slice (0.2 to 1 ms each)."""
_PARTS: Mapping[str, type[msgspec.Struct]] = {
    "services": ServiceSpec,
    "networks": NetworkSpec,
    "volumes": VolumeSpec,
    "secrets": StackPayload,
    "configs": StackPayload,
}
S = TypeVar("S", bound=msgspec.Struct)
Ids = Mapping[str, str | Sequence[str]]
"""By field of a request, the ids of the objects that it names."""


def _nothing(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    yield from ()
    return {}


def _fleet(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    require_unlimited(caller, rule)
    yield from ()
    return {}


def _listed(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    if getattr(request, "kind", "") in NO_STACKS:
        require_unlimited(caller, rule)
    yield from ()
    return {}


def _service(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    yield from ()
    return {"ref": _theirs(caller, rule, SERVICE, request.ref, state).id}


def _task(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    task = yield from find_task(state, request.ref)
    _require_task(caller, rule, request.ref, task, state)
    return {"ref": task.id}


def _service_or_task(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    return {"ref": (yield from _end(caller, rule, find_service_or_task, request.ref, state))}


def _container(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    return {"ref": (yield from _end(caller, rule, find_container, request.ref, state))}


def _containers(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    found: list[str] = []
    for ref in request.refs:
        found += [(yield from _end(caller, rule, find_container, ref, state))]
    return {"refs": found}


def _network(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    yield from ()
    return {"ref": _theirs(caller, rule, NETWORK, request.ref, state).id}


def _object(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    kind = kind_named(request.kind)
    if kind.name in NO_STACKS:
        require_unlimited(caller, rule)
    yield from ()
    found = _theirs(caller, rule, kind, request.ref, state)
    if kind.name in (SECRET.name, CONFIG.name) and rule.role is not Role.VIEWER:
        # The id does not tell any more whether one version was named, or all of them.
        require_removable(state, kind, found, request.ref)
    return {"ref": found.id}


def _of_new_service(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    spec = read(ServiceSpec, request.spec)
    require_label(caller, rule, spec.labels)
    _require_uses(caller, rule, Service(id=_NEW, spec=spec), spec, state)
    yield from ()
    return {}


def _of_changed_service(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    service = _theirs(caller, rule, SERVICE, request.ref, state)
    spec = read(ServiceSpec, request.spec)
    require_label(caller, rule, spec.labels)
    _require_uses(caller, rule, service, spec, state)
    yield from ()
    return {"ref": service.id}


def _of_earlier_service(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    service = _theirs(caller, rule, SERVICE, request.ref, state)
    spec = rollback_target(service, request.to).spec
    require_label(caller, rule, spec.labels)
    _require_networks(caller, rule, spec, service.spec, state)
    _require_volumes(caller, rule, volumes_of_spec(state, service, spec), state)
    _require_references(caller, rule, spec, service.spec, state)
    yield from ()
    return {"ref": service.id}


def _of_new_network(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    require_label(caller, rule, read(NetworkSpec, request.spec).labels)
    yield from ()
    return {}


def _of_new_volume(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    """Also of the volume of that name, if there is one: it is the answer."""
    require_label(caller, rule, request.spec.labels)
    _require_volumes(caller, rule, (request.spec.name,), state)
    yield from ()
    return {}


def _volume(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    yield from ()
    return {"ref": _theirs(caller, rule, VOLUME, request.ref, state).id}


def _volumes(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    yield from ()
    return {"refs": [_theirs(caller, rule, VOLUME, ref, state).id for ref in request.refs]}


def _of_new_payload(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    require_label(caller, rule, request.spec.labels)
    yield from ()
    return {}


def _secret(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    yield from ()
    return {"ref": _theirs(caller, rule, SECRET, request.ref, state).id}


def _config(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    yield from ()
    return {"ref": _theirs(caller, rule, CONFIG, request.ref, state).id}


def _of_new_stack(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    """Each object of the stack, and each that its services use."""
    spec = yield from read_stack(request.spec)
    yield from _require_stack(caller, rule, spec, state)
    return {}


def _of_earlier_stack(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    stack = _theirs(caller, rule, STACK, request.ref, state)
    target = stack_rollback_target(stack, request.to)
    yield from _require_stack(caller, rule, spec_of(target.spec), state)
    return {"ref": stack.id}


def _stack(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    """One of objects that have its label alone has no id."""
    if in_stacks(caller, {STACK_LABEL: request.ref}):
        labelled = yield from owned_by_label_alone(state, request.ref)
        if labelled:
            return {}
    return {"ref": _theirs(caller, rule, STACK, request.ref, state).id}


def _path(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    """Both ends: a trace shows hosts and addresses of the other end."""
    source = yield from _end(caller, rule, find_service_or_task, request.source, state)
    target = yield from _end(caller, rule, find_service_or_task, request.target, state)
    return {"source": source, "target": target}


OF_STACKS: Mapping[Named, Callable[[Caller, Rule, Any, State], Slices[Ids]]] = {
    Named.NOTHING: _nothing,
    Named.FLEET: _fleet,
    Named.LISTED: _listed,
    Named.SERVICE: _service,
    Named.TASK: _task,
    Named.SERVICE_OR_TASK: _service_or_task,
    Named.CONTAINERS: _containers,
    Named.TARGET: _container,
    Named.PROGRAM: _container,
    Named.CONTAINER: _container,
    Named.FILES: _container,
    Named.NETWORK: _network,
    Named.OBJECT: _object,
    Named.NEW_SERVICE: _of_new_service,
    Named.CHANGED_SERVICE: _of_changed_service,
    Named.EARLIER_SERVICE: _of_earlier_service,
    Named.NEW_NETWORK: _of_new_network,
    Named.NEW_VOLUME: _of_new_volume,
    Named.VOLUME: _volume,
    Named.VOLUMES: _volumes,
    Named.NEW_PAYLOAD: _of_new_payload,
    Named.SECRET: _secret,
    Named.CONFIG: _config,
    Named.NEW_STACK: _of_new_stack,
    Named.EARLIER_STACK: _of_earlier_stack,
    Named.STACK: _stack,
    Named.PATH: _path,
    Named.USER: _nothing,
}


def _end(
    caller: Caller,
    rule: Rule,
    lookup: Callable[[State, str], Slices[Service | Task]],
    ref: str,
    state: State,
) -> Slices[str]:
    """The id of the service or task that the ref names."""
    named = yield from lookup(state, ref)
    if isinstance(named, Service):
        _require(caller, rule, SERVICE, ref, named)
    else:
        _require_task(caller, rule, ref, named, state)
    return named.id


def _theirs(caller: Caller, rule: Rule, kind: Kind[Item, Id], ref: str, state: State) -> Item:
    """The object that the ref names, which is of the caller's stacks."""
    item = find(state, kind, ref)
    _require(caller, rule, kind, ref, item)
    return item


def _require(caller: Caller, rule: Rule, kind: Kind[Any, Any], ref: str, item: Object) -> None:
    """The error has the caller's word for the object: of the beginning of an id, no name. Everybody
    reads the predefined networks (see `sees`).
    """
    is_predefined = kind.name == NETWORK.name and item.id in PREDEFINED_NETWORKS
    if is_predefined and rule.role is Role.VIEWER:
        return
    require_stack(caller, rule, f"{kind.name} {quoted(ref)}", kind.labels(item))


def _require_task(caller: Caller, rule: Rule, ref: str, task: Task, state: State) -> None:
    service = state.services.get(task.service_id)
    labels = service.spec.labels if service else {}
    require_stack(caller, rule, f"task {quoted(ref)}", labels)


def _require_stack(caller: Caller, rule: Rule, spec: StackSpec, state: State) -> Slices[None]:
    """The stack, its objects, those of the same names that exist, and all that services use."""
    require_label(caller, rule, {STACK_LABEL: spec.name})
    for kind, objects in (
        (NETWORK, spec.networks),
        (VOLUME, spec.volumes),
        (SECRET, [one.spec for one in spec.secrets]),
        (CONFIG, [one.spec for one in spec.configs]),
    ):
        for one in objects:
            require_label(caller, rule, one.labels)
            _require_named(caller, rule, kind, one.name, state)
    yield
    for batch in batches(spec.services, SERVICES_AT_ONCE):
        for service in batch:
            require_label(caller, rule, service.labels)
            known = state.services.get(state.service_of_name.get(service.name, _NEW))
            if known is not None:
                _require(caller, rule, SERVICE, service.name, known)
            _require_uses(caller, rule, known or Service(id=_NEW, spec=service), service, state)
        yield


def _require_named(
    caller: Caller, rule: Rule, kind: Kind[Any, Any], name: str, state: State
) -> None:
    """An object of the name, if there is one; of a secret or config its newest version."""
    if kind in (SECRET, CONFIG):
        found: Object | None = _newest(state, kind, name)
    else:
        found = state.of(kind).get(state.ids_of_names(kind).get(name, ""))
    if found is not None:
        _require(caller, rule, kind, name, found)


def _require_uses(
    caller: Caller, rule: Rule, service: Service, spec: ServiceSpec, state: State
) -> None:
    """What tasks of the service's new spec use; what an admin had it use may stay."""
    is_new = service.id == _NEW
    old = None if is_new else service.spec
    _require_networks(caller, rule, spec, old, state)
    if old is None or spec.task_template != old.task_template:
        _require_plain_names(caller, rule, spec)
    known = () if is_new else frozenset(_mounted_before(state, service))
    named = volumes_of_spec(state, service, spec)
    _require_volumes(caller, rule, (one for one in named if one not in known), state)
    _require_references(caller, rule, spec, old, state)


def _require_networks(
    caller: Caller, rule: Rule, spec: ServiceSpec, old: ServiceSpec | None, state: State
) -> None:
    """The networks that the service joins belong to the stacks too, except those that an admin had
    it join.
    """
    joined = [one.target for one in old.task_template.networks] if old else []
    for attachment in spec.task_template.networks:
        if attachment.target in (*PREDEFINED_NETWORKS, *joined):
            continue
        try:
            network = find(state, NETWORK, attachment.target)
        except NotFound:
            continue  # the change itself is refused for it
        if network.id not in joined and not network.spec.ingress:
            _require(caller, rule, NETWORK, attachment.target, network)


def _require_volumes(caller: Caller, rule: Rule, names: Iterable[str], state: State) -> None:
    """The volumes that exist belong to the stacks too; others will, as the service does."""
    for name in names:
        if (volume := volume_named(state, name)) is not None:
            _require(caller, rule, VOLUME, name, volume)


def _mounted_before(state: State, service: Service) -> Iterator[str]:
    """The volumes of others that the service mounts: who had it do that was allowed to."""
    for name in volumes_of_spec(state, service, service.spec):
        volume = volume_named(state, name)
        if volume is not None and volume.id in service.volumes_of_others:
            yield name


def _require_plain_names(caller: Caller, rule: Rule, spec: ServiceSpec) -> None:
    """What is not known yet, the id of a new service and nodes that join later, is in the names of
    volumes only as it is: a condition could choose the volume of another stack.
    """
    for mount in spec.task_template.container_spec.mounts:
        try:
            hidden = [one for one in _LATER if not shows_plainly(mount.volume, one)]
        except Fault:
            continue  # the change itself is refused for it
        if hidden:
            raise PermissionDenied(
                f"{title(caller)} may not {rule.verb} with {hidden[0]} in a condition or function"
                f" of the volume name {quoted(mount.volume)}: it could name a volume of another"
                f" stack; expected {{{{{hidden[0]}}}}} by itself"
            )


def _require_references(
    caller: Caller, rule: Rule, spec: ServiceSpec, old: ServiceSpec | None, state: State
) -> None:
    """The secrets and configs that the service uses belong to the stacks too, except versions that
    an admin had it use.
    """
    used = old.task_template.container_spec.references if old else ()
    known = {(kind_of_reference(one).name, one.id) for one in used}
    for reference in spec.task_template.container_spec.references:
        kind = kind_of_reference(reference)
        if (kind.name, reference.id) in known:
            continue
        found = state.of(kind).get(PayloadId(reference.id))
        found = found or _newest(state, kind, reference.source)
        if found is not None:  # the change itself is refused for one that does not exist
            _require(caller, rule, kind, reference.source, found)


def _newest(state: State, kind: Kind[Payload, PayloadId], name: str) -> Payload | None:
    newest = state.payloads[kind.name].newest(name)
    return None if newest is None else state.of(kind)[newest]


def read(cls: type[S], message: Message) -> S:
    """The value of a request's message. Raises InvalidArgument."""
    try:
        return from_proto(cls, message)
    except ValueError as error:
        raise InvalidArgument(str(error)) from None


def read_stack(message: Any) -> Slices[StackSpec]:
    """The same of a stack, whose message may have thousands of objects."""
    found: dict[str, tuple[Any, ...]] = {}
    for field, cls in _PARTS.items():
        items: list[Any] = []
        for batch in batches(getattr(message, field), SERVICES_AT_ONCE):
            items += [read(cls, one) for one in batch]
            yield
        found[field] = tuple(items)
    return StackSpec(name=message.name, **found)
