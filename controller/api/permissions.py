"""Whether a caller may make a request, and what it is shown of an answer. PURE.

The rules are those of `controller/identity/policy.py`; here the objects that a request names are
looked up. Users that are not limited to stacks cost no lookup.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from controller.api.changes.services import rollback_target
from controller.api.queries.lookup import (
    find,
    find_container_task,
    requested_task,
)
from controller.api.stacking.finish import rollback_target as stack_rollback_target
from controller.api.stacking.meaning import spec_of
from controller.api.stacks import (
    NO_STACKS,
    OF_STACKS,
    SERVICES_AT_ONCE,
    Ids,
    read,
    read_stack,
)
from controller.brain.following import follows
from controller.brain.payloads import kind_of_reference
from controller.brain.slices import Slices, batches
from controller.identity.caller import Caller, CallerKind, Role
from controller.identity.policy import (
    NETWORK_CONDITIONS,
    POWER,
    SERVICE_CONDITIONS,
    VOLUME_CONDITIONS,
    Named,
    Rule,
    authorize,
    in_stacks,
    require_conditions,
    require_role,
    title,
)
from pyswarm_core.errors import PermissionDenied, quoted
from pyswarm_core.identity.users import UserId
from pyswarm_core.ids import ServiceId, TaskId
from pyswarm_core.kinds import (
    CONFIG,
    KINDS,
    SECRET,
    SERVICE,
    STACK,
    USER,
    Kind,
    kind_of,
)
from pyswarm_core.limits import SLICE_TASKS
from pyswarm_core.objects import Service, Task
from pyswarm_core.payloads.payload import Payload
from pyswarm_core.specs import PREDEFINED_NETWORKS, NetworkSpec, ServiceSpec
from pyswarm_core.stacks.spec import StackPayload, StackSpec
from pyswarm_core.state import State
from pyswarm_core.templates.specs import names_labels
from pyswarm_core.views import Event
from pyswarm_core.volumes.allowed import confined, is_allowed
from pyswarm_core.volumes.mounts import Mount
from pyswarm_core.volumes.volume import VolumeSpec


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
        ids = yield from OF_STACKS[rule.named](caller, rule, request, state)
        request = _naming(request, ids)
    if caller.role is Role.ADMIN:
        return request
    if rule.named in (Named.NEW_SERVICE, Named.CHANGED_SERVICE):
        request = _confined(caller, rule, request, state)
    if (of_stack := _OF_STACK.get(rule.named)) is not None:
        request = yield from of_stack(caller, rule, request, state)
    if (check := _OPTIONS.get(rule.named)) is not None:
        check(caller, rule, request, state)
    if (kind := _PAYLOADS.get(rule.named)) is not None:
        yield from _followers(caller, rule, [find(state, kind, request.ref)], state)
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


def _allowed(caller: Caller, state: State) -> tuple[str, ...]:
    """The paths that the caller may bind. They belong to no stack."""
    return () if caller.stacks else state.cluster.spec.allowed_bind_paths


def _confined(caller: Caller, rule: Rule, request: Any, state: State) -> Any:
    """The request in which each bind carries the allowed path that it is beneath. One that changes
    no task of a service stays as it is.
    """
    allowed, spec = _allowed(caller, state), read(ServiceSpec, request.spec)
    if rule.named is Named.CHANGED_SERVICE:
        old = find(state, SERVICE, request.ref).spec
        if not _changes_tasks(old, spec) and not request.query_registry:
            return request
    copy = type(request)()
    copy.CopyFrom(request)
    _confine(copy.spec, spec, allowed)
    return copy


def _confined_stack(
    request: Any, spec: StackSpec, allowed: tuple[str, ...]
) -> tuple[Any, tuple[ServiceSpec, ...]]:
    """The same of all services of a stack: the request, and the services in it."""
    copy = type(request)()
    copy.CopyFrom(request)
    services = []
    for message, service in zip(copy.spec.services, spec.services, strict=True):
        _confine(message, service, allowed)
        mounts = service.task_template.container_spec.mounts
        services.append(_with_mounts(service, tuple(confined(one, allowed) for one in mounts)))
    return copy, tuple(services)


def _confine(message: Any, spec: ServiceSpec, allowed: tuple[str, ...]) -> None:
    """Set in the message of the spec the allowed path that each bind is beneath."""
    mounts = message.task_template.container_spec.mounts
    for at, mount in enumerate(spec.task_template.container_spec.mounts):
        if (new := confined(mount, allowed)) != mount and new.bind_options is not None:
            mounts[at].bind_options.beneath = new.bind_options.beneath


def _require_options(caller: Caller, rule: Rule, spec: ServiceSpec, state: State) -> None:
    """Options of a service that need the role admin; binds that an allowed path confines do not."""
    allowed = _allowed(caller, state)
    mounts = spec.task_template.container_spec.mounts
    left = tuple(one for one in mounts if not is_allowed(one, allowed))
    require_conditions(caller, rule, _with_mounts(spec, left), SERVICE_CONDITIONS)


def _with_mounts(spec: ServiceSpec, mounts: tuple[Mount, ...]) -> ServiceSpec:
    container = spec.task_template.container_spec
    if mounts == container.mounts:
        return spec
    container = msgspec.structs.replace(container, mounts=mounts)
    template = msgspec.structs.replace(spec.task_template, container_spec=container)
    return msgspec.structs.replace(spec, task_template=template)


def _new_service(caller: Caller, rule: Rule, request: Any, state: State) -> None:
    _require_options(caller, rule, read(ServiceSpec, request.spec), state)


def _changed_service(caller: Caller, rule: Rule, request: Any, state: State) -> None:
    """An operator may scale, stop and start a service that an admin gave such an option."""
    spec, service = read(ServiceSpec, request.spec), find(state, SERVICE, request.ref)
    if _changes_tasks(service.spec, spec) or request.query_registry:
        for one in (spec, *_specs_of_layer(service)):
            _require_options(caller, rule, one, state)


def _changes_tasks(old: ServiceSpec, new: ServiceSpec) -> bool:
    """Whether tasks of the new spec differ from those of the old one: also by labels, which
    templates may name in what they mount.
    """
    if old.task_template != new.task_template:
        return True
    return old.labels != new.labels and names_labels(new.task_template.container_spec)


def _earlier_service(caller: Caller, rule: Rule, request: Any, state: State) -> None:
    service = find(state, SERVICE, request.ref)
    for spec in (rollback_target(service, request.to).spec, *_specs_of_layer(service)):
        _require_options(caller, rule, spec, state)


def _specs_of_layer(service: Service) -> list[ServiceSpec]:
    """The specs with which files written now may run: a container keeps its writable layer when its
    spec changes, also when a rollback returns to an earlier one. None of other services.
    """
    if not service.spec.mode.is_container:
        return []
    return [service.spec, *(one.spec for one in service.previous_specs)]


def _new_network(caller: Caller, rule: Rule, request: Any, state: State) -> None:
    require_conditions(caller, rule, read(NetworkSpec, request.spec), NETWORK_CONDITIONS)


def _new_volume(caller: Caller, rule: Rule, request: Any, state: State) -> None:
    require_conditions(caller, rule, read(VolumeSpec, request.spec), VOLUME_CONDITIONS)


def _new_stack(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Any]:
    """The request in which binds are confined. What of the stack needs the role admin, or follows a
    secret or config that it changes and needs it, is refused. The stack is read once: it may be
    large.
    """
    spec = yield from read_stack(request.spec)
    request, services = _confined_stack(request, spec, _allowed(caller, state))
    spec = msgspec.structs.replace(spec, services=services)
    yield
    yield from _stack_options(caller, rule, spec, state)
    yield from _followers_of_stack(caller, rule, spec, state)
    return request


def _earlier_stack(caller: Caller, rule: Rule, request: Any, state: State) -> Slices[Any]:
    stack = find(state, STACK, request.ref)
    target = stack_rollback_target(stack, request.to)
    yield from _stack_options(caller, rule, spec_of(target.spec), state)
    return request


def _stack_options(caller: Caller, rule: Rule, spec: StackSpec, state: State) -> Slices[None]:
    for batch in batches(spec.services, SERVICES_AT_ONCE):
        for service in batch:
            named = _about_service(rule, "that have", service)
            known = state.services.get(state.service_of_name.get(service.name, ServiceId("")))
            for one in (service, *(_specs_of_layer(known) if known is not None else ())):
                _require_options(caller, named, one, state)
        yield
    for network in spec.networks:
        require_conditions(caller, rule, network, NETWORK_CONDITIONS)
    for volume in spec.volumes:
        require_conditions(caller, rule, volume, VOLUME_CONDITIONS)


def _about_service(rule: Rule, word: str, spec: ServiceSpec) -> Rule:
    verb = f"{rule.verb} {word} service {quoted(spec.name)}"
    return msgspec.structs.replace(rule, verb=verb)


def _followers_of_stack(caller: Caller, rule: Rule, spec: StackSpec, state: State) -> Slices[None]:
    """The services that follow secrets and configs which the stack changes."""
    kinds: tuple[Kind[Any, Any], ...] = (SECRET, CONFIG)
    changed = [
        newest
        for kind, payloads in zip(kinds, (spec.secrets, spec.configs), strict=True)
        for one in payloads
        if (newest := _changed_by(state, kind, one)) is not None
    ]
    if changed:
        yield from _followers(caller, rule, changed, state)


def _changed_by(state: State, kind: Kind[Any, Any], given: StackPayload) -> Payload | None:
    """The newest version, if a stack with this secret or config makes another one."""
    known = state.payloads[kind.name].newest(given.spec.name)
    if known is None:
        return None
    newest: Payload = state.of(kind)[known]
    same = (newest.data, newest.spec.templating) == (given.data, given.spec.templating)
    return None if same else newest


def _followers(
    caller: Caller, rule: Rule, changed: Sequence[Payload], state: State
) -> Slices[None]:
    """Who changes a secret or config changes files in the containers of the services that follow
    it, and so has the power that their options give.
    """
    versions = {(kind_of(one).name, one.spec.name): one for one in changed}
    for batch in batches(list(state.services.values()), SLICE_TASKS):
        for service in batch:
            if not service.removing and _follows_any(service.spec, versions):
                named = _about_service(rule, "of", service.spec)
                _require_options(caller, named, service.spec, state)
        yield


def _follows_any(spec: ServiceSpec, versions: Mapping[tuple[str, str], Payload]) -> bool:
    for one in spec.task_template.container_spec.references:
        version = versions.get((kind_of_reference(one).name, one.source))
        if version is not None and follows(spec, version):
            return True
    return False


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
            _require_options(caller, rule, spec, state)


def _self(caller: Caller, rule: Rule, request: Any, state: State) -> None:
    if request.ref not in ("", caller.id, caller.name):
        require_role(caller, Role.ADMIN, f"{rule.verb} other than itself")


_PAYLOADS: Mapping[Named, Kind[Any, Any]] = {Named.SECRET: SECRET, Named.CONFIG: CONFIG}
_OF_STACK: Mapping[Named, Callable[[Caller, Rule, Any, State], Slices[Any]]] = {
    Named.NEW_STACK: _new_stack,
    Named.EARLIER_STACK: _earlier_stack,
}
_OPTIONS: Mapping[Named, Callable[[Caller, Rule, Any, State], None]] = {
    Named.NEW_SERVICE: _new_service,
    Named.CHANGED_SERVICE: _changed_service,
    Named.EARLIER_SERVICE: _earlier_service,
    Named.NEW_NETWORK: _new_network,
    Named.NEW_VOLUME: _new_volume,
    Named.USER: _self,
}


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
            return kind.name not in NO_STACKS and in_stacks(caller, kind.labels(item))
    return False


def sees_event(caller: Caller, event: Event) -> bool:
    """Whether the caller is shown the event. Events of users are for admins, as their lists."""
    if event.type == USER.name and caller.role is not Role.ADMIN:
        return False
    return not caller.stacks or event.stack in caller.stacks
