"""Whether a caller may make a request, and what it is shown of an answer. PURE.

The rules are those of `controller/identity/policy.py`; here the objects that a request names are
looked up. Users that are not limited to stacks cost no lookup.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from google.protobuf.message import Message

from controller.api.changes.services import rollback_target
from controller.api.queries.lookup import (
    find,
    find_container,
    find_container_task,
    find_service_or_task,
    find_task,
    kind_named,
    requested_task,
)
from controller.brain.slices import Slices
from controller.brain.volumes import volume_named
from controller.identity.caller import Caller, CallerKind, Role
from controller.identity.policy import (
    NETWORK_CONDITIONS,
    POWER,
    SERVICE_CONDITIONS,
    Named,
    Rule,
    authorize,
    in_stacks,
    require_conditions,
    require_label,
    require_role,
    require_stack,
    require_unlimited,
    title,
)
from pyswarm_core.codec import from_proto
from pyswarm_core.errors import InvalidArgument, NotFound, PermissionDenied, quoted
from pyswarm_core.identity.users import UserId
from pyswarm_core.ids import TaskId
from pyswarm_core.kinds import KINDS, NETWORK, NODE, SERVICE, USER, VOLUME, Id, Item, Kind
from pyswarm_core.objects import Object, Service, Task
from pyswarm_core.specs import PREDEFINED_NETWORKS, NetworkSpec, ServiceSpec
from pyswarm_core.state import State
from pyswarm_core.views import Event

S = TypeVar("S", bound=msgspec.Struct)
Ids = Mapping[str, str | Sequence[str]]
"""By field of a request, the ids of the objects that it names."""

_NO_STACKS = (NODE.name, USER.name)
"""Kinds whose objects belong to no stack."""


def current(caller: Caller, state: State) -> Caller:
    """The caller with the role and stacks that it has now. Raises PermissionDenied for a user that
    was removed.
    """
    if caller.kind is not CallerKind.USER:
        return caller
    user = state.of(USER).get(UserId(caller.id))
    if user is None:
        raise PermissionDenied(f"{title(caller)} was removed, or is of another fleet")
    if caller.token_id and caller.token_id not in [token.id for token in user.tokens]:
        raise PermissionDenied(f"the token of {title(caller)} was removed")
    spec = user.spec
    return msgspec.structs.replace(caller, name=spec.name, role=spec.role, stacks=spec.stacks)


def authorize_request(caller: Caller, method: str, request: Any, state: State) -> Slices[Any]:
    """Decide about a request to the leader, whose fields are those of the method's message. Returns
    the request to serve: where it depends on an object whether the caller may make it, that object
    is named by its id. Its name may become that of another object before the request is served.

    Raises PermissionDenied, and NotFound or InvalidArgument for what the request names.
    """
    rule = authorize(caller, method)
    if caller.role is None:
        return request  # agents and hosts that join name no object of users
    kind = getattr(request, "kind", "")
    if (needed := rule.of_kind.get(kind)) is not None:
        require_role(caller, needed, f"{rule.verb} of the kind {kind}")
    if caller.stacks:  # first: an error about options shows those of the service
        ids = yield from _STACKS[rule.named](caller, rule, request, state)
        request = _naming(request, ids)
    if caller.role is Role.ADMIN:
        return request
    if (check := _OPTIONS.get(rule.named)) is not None:
        check(caller, rule, request, state)
    if rule.named in (Named.PROGRAM, Named.FILES):
        request = _naming(request, (yield from _program(caller, rule, request, state)))
    return request


def _naming(request: Any, ids: Ids) -> Any:
    """A copy of the request with these ids in its fields; the request itself without any."""
    if not ids:
        return request
    copy = type(request)()
    copy.CopyFrom(request)
    for field, value in ids.items():
        if isinstance(value, str):
            setattr(copy, field, value)
        else:
            getattr(copy, field)[:] = value
    return copy


# Options


def _new_service(caller: Caller, rule: Rule, request: Any, state: State) -> None:
    spec = _read(ServiceSpec, request.spec)
    require_conditions(caller, rule, spec, SERVICE_CONDITIONS)


def _changed_service(caller: Caller, rule: Rule, request: Any, state: State) -> None:
    """An operator may scale, stop and start a service that an admin gave such an option."""
    spec, service = _read(ServiceSpec, request.spec), find(state, SERVICE, request.ref)
    if spec.task_template != service.spec.task_template or request.query_registry:
        for one in (spec, *_specs_of_layer(service)):
            require_conditions(caller, rule, one, SERVICE_CONDITIONS)


def _earlier_service(caller: Caller, rule: Rule, request: Any, state: State) -> None:
    service = find(state, SERVICE, request.ref)
    for spec in (rollback_target(service, request.to).spec, *_specs_of_layer(service)):
        require_conditions(caller, rule, spec, SERVICE_CONDITIONS)


def _specs_of_layer(service: Service) -> list[ServiceSpec]:
    """The specs with which files written now may run: a container keeps its writable layer when its
    spec changes, also when a rollback returns to an earlier one. None of other services.
    """
    if not service.spec.mode.is_container:
        return []
    return [service.spec, *(one.spec for one in service.previous_specs)]


def _new_network(caller: Caller, rule: Rule, request: Any, state: State) -> None:
    require_conditions(caller, rule, _read(NetworkSpec, request.spec), NETWORK_CONDITIONS)


def _program(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    """Who runs programs in a task, connects to its ports, or reads and writes its files, has the
    power that its options give.
    """
    if getattr(request, "privileged", False):
        verb = f"{rule.verb} with --privileged"
        require_role(caller, Role.ADMIN, verb, f"that {POWER}")
    if rule.named is Named.FILES:
        task = yield from find_container_task(state, request.ref)
    else:
        task = yield from requested_task(state, request)
    _require_power(caller, rule, task, state)
    return {"ref": task.id}


def _require_power(caller: Caller, rule: Rule, task: Task, state: State) -> None:
    """The options of the spec that the task was made from, of the present one, and of those that
    its files may run with.
    """
    service = state.services.get(task.service_id)
    if service is None:  # it cannot be read
        why = "that is about a task whose options are unknown"
        require_role(caller, Role.ADMIN, rule.verb, why)
        return
    made_from = service.made_from(task.spec_version)
    for spec in (made_from, service.spec, *_specs_of_layer(service)):
        if spec is not None:
            require_conditions(caller, rule, spec, SERVICE_CONDITIONS)


def _self(caller: Caller, rule: Rule, request: Any, state: State) -> None:
    if request.ref not in ("", caller.id, caller.name):
        require_role(caller, Role.ADMIN, f"{rule.verb} other than itself")


_OPTIONS: Mapping[Named, Callable[[Caller, Rule, Any, State], None]] = {
    Named.NEW_SERVICE: _new_service,
    Named.CHANGED_SERVICE: _changed_service,
    Named.EARLIER_SERVICE: _earlier_service,
    Named.NEW_NETWORK: _new_network,
    Named.USER: _self,
}


# Stacks


def _nothing(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    yield from ()
    return {}


def _fleet(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    require_unlimited(caller, rule)
    yield from ()
    return {}


def _listed(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    if getattr(request, "kind", "") in _NO_STACKS:
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
    if kind.name in _NO_STACKS:
        require_unlimited(caller, rule)
    yield from ()
    return {"ref": _theirs(caller, rule, kind, request.ref, state).id}


def _of_new_service(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    spec = _read(ServiceSpec, request.spec)
    require_label(caller, rule, spec.labels)
    _require_networks(caller, rule, spec, None, state)
    _require_volumes(caller, rule, spec.task_template.volumes, state)
    yield from ()
    return {}


def _of_changed_service(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    service = _theirs(caller, rule, SERVICE, request.ref, state)
    spec = _read(ServiceSpec, request.spec)
    require_label(caller, rule, spec.labels)
    _require_networks(caller, rule, spec, service.spec, state)
    old = service.spec.task_template.volumes
    _require_volumes(
        caller, rule, [one for one in spec.task_template.volumes if one not in old], state
    )
    yield from ()
    return {"ref": service.id}


def _of_earlier_service(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    service = _theirs(caller, rule, SERVICE, request.ref, state)
    spec = rollback_target(service, request.to).spec
    require_label(caller, rule, spec.labels)
    _require_networks(caller, rule, spec, service.spec, state)
    _require_volumes(caller, rule, spec.task_template.volumes, state)
    yield from ()
    return {"ref": service.id}


def _of_new_network(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    require_label(caller, rule, _read(NetworkSpec, request.spec).labels)
    yield from ()
    return {}


def _of_new_volume(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    """Also of the volume of that name, if there is one: it is the answer."""
    require_label(caller, rule, request.spec.labels)
    _require_volumes(caller, rule, (request.spec.name,), state)
    yield from ()
    return {}


def _path(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Ids]:
    """Both ends: a trace shows hosts and addresses of the other end."""
    source = yield from _end(caller, rule, find_service_or_task, request.source, state)
    target = yield from _end(caller, rule, find_service_or_task, request.target, state)
    return {"source": source, "target": target}


_STACKS: Mapping[Named, Callable[[Caller, Rule, Any, State], Slices[Ids]]] = {
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


def _read(cls: type[S], message: Message) -> S:
    try:
        return from_proto(cls, message)
    except ValueError as error:
        raise InvalidArgument(str(error)) from None


# Answers


def sees(caller: Caller, state: State, object_id: str) -> bool:
    """Whether lists show the caller the service, task or network of that id. Everybody sees the
    predefined networks, which services of any stack may join.
    """
    if not caller.stacks or object_id in PREDEFINED_NETWORKS:
        return True
    if (task := state.tasks.get(TaskId(object_id))) is not None:
        service = state.services.get(task.service_id)
        return service is not None and in_stacks(caller, service.spec.labels)
    for kind in KINDS.values():
        item = state.of(kind).get(object_id)
        if item is not None:
            return kind.name not in _NO_STACKS and in_stacks(caller, kind.labels(item))
    return False


def sees_event(caller: Caller, event: Event) -> bool:
    """Whether the caller is shown the event. Events of users are for admins, as their lists."""
    if event.type == USER.name and caller.role is not Role.ADMIN:
        return False
    return not caller.stacks or event.stack in caller.stacks
