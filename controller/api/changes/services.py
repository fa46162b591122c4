"""Creating, updating and removing services. PURE: state and request in, writes or an error out.

Every accepted change increases `version.index` by one; an update names the index that it is based
on and is refused if another came first. `spec_version` increases with every changed spec,
`template_version` only if the change needs new tasks: not if only their limits change, which agents
set in running containers. Previous specs are kept for a rollback and for the tasks still made from
them, within the size of one stored value.

Virtual addresses and ports are allocated here and not later, so that a conflict is the answer to
the request. The first service that publishes through the routing mesh creates its network.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from controller.api.changes.attachments import attached
from controller.api.changes.names import random_name
from controller.api.changes.networks import INGRESS, create_network
from controller.api.changes.storable import require_storable
from controller.api.changes.unreadable import remove_unreadable, unreadable_service
from controller.api.queries.lookup import find
from controller.brain.allocator.endpoints import allocate_endpoint
from controller.brain.orchestrator.update import base_version, begun, resumed
from pyswarm_core import limits
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import AlreadyExists, Conflict, Unavailable, invalid, quoted
from pyswarm_core.ids import IdSource, NetworkId, ServiceId
from pyswarm_core.indexes.tasks import ServiceTasks
from pyswarm_core.kinds import SERVICE, encode
from pyswarm_core.objects import (
    Endpoint,
    PreviousSpec,
    Service,
    UpdateStatus,
    Version,
    VersionRange,
)
from pyswarm_core.ports import has_ingress_ports
from pyswarm_core.specs import (
    Limits,
    Placement,
    PortConfig,
    PublishMode,
    RegistryLogin,
    RestartPolicy,
    ServiceSpec,
    TaskSpec,
)
from pyswarm_core.state import State
from pyswarm_core.validation import login_problems, require, service_problems

replace = msgspec.structs.replace

RECORD_BYTES_MAX = limits.VALUE_BYTES_MAX - 4096
"""A stored service with all its previous specs, with room for its later changes."""
_FRAME = 8
"""Bytes of a message in a message: its tag and its length."""


def create_service(
    state: State,
    spec: ServiceSpec,
    routes: Iterable[str],
    now: Instant,
    ids: IdSource,
    *,
    login: RegistryLogin | None = None,
) -> tuple[Writes, Service]:
    """A new service; without a name it gets a generated one.

    Raises InvalidArgument, AlreadyExists (the name), NotFound (a network), Conflict (a port or an
    address is taken; see `create_network` for `routes`), Unavailable (too many services).
    """
    if len(state.services) >= limits.SERVICES_MAX:
        raise Unavailable(f"there are {limits.SERVICES_MAX} services, which is the limit")
    (service_id,) = ids.draw(1)
    if not spec.name:
        spec = replace(spec, name=random_name(service_id, state.service_of_name))
    require([*service_problems(spec), *(login_problems(login) if login else ())])
    if spec.name in state.service_of_name:
        taken = state.service_of_name[spec.name]
        raise AlreadyExists(f"service {quoted(spec.name)} exists already, with the id {taken}")
    mesh, ingress = _mesh(state, spec, routes, now, ids)
    spec = attached(state, spec, ingress)
    service = Service(
        id=ServiceId(service_id),
        spec=spec,
        version=Version(index=1),
        created_at=now,
        updated_at=now,
        endpoint=allocate_endpoint(state, ServiceId(service_id), spec, Endpoint()),
        registry_login=login,
    )
    require_storable(f"service {quoted(spec.name)}", service, RECORD_BYTES_MAX)
    return replace(mesh, objects=(*mesh.objects, service)), service


class Update(NamedTuple):
    """A request to replace a service's spec, based on one version of it."""

    ref: str
    based_on: Version
    spec: ServiceSpec
    login: RegistryLogin | None = None
    """For tasks that are created from now on; None keeps the stored one."""


def update_service(
    state: State, update: Update, routes: Iterable[str], now: Instant, ids: IdSource
) -> tuple[Writes, Service]:
    """The service with another spec. The same spec again changes nothing.

    Raises InvalidArgument, NotFound, Conflict (changed since it was read, or being removed; a port
    or an address is taken).
    """
    spec, login = update.spec, update.login
    old = find(state, SERVICE, update.ref)
    _require_updatable(old, update.based_on)
    require([*service_problems(spec), *(login_problems(login) if login else ())])
    _require_same_identity(old.spec, spec)
    mesh, ingress = _mesh(state, spec, routes, now, ids)
    spec, login = attached(state, spec, ingress, old.spec), login or old.registry_login
    endpoint = allocate_endpoint(state, old.id, spec, old.endpoint)
    service = replace(
        old,
        registry_login=login,
        version=Version(index=old.version.index + 1),
        updated_at=now,
        endpoint=endpoint,
        update_status=_updated_status(state, old, spec, now),
    )
    if (spec, login, endpoint) != (old.spec, old.registry_login, old.endpoint):
        since = old.updated_at if old.previous_specs else old.created_at
        service = _revised(state, service, spec, since)
    elif service.update_status is old.update_status:
        return Writes(), old
    return replace(mesh, objects=(*mesh.objects, service)), service


def _updated_status(
    state: State, old: Service, spec: ServiceSpec, now: Instant
) -> UpdateStatus | None:
    """The update's status after an update of the spec that needs no new tasks: it resumes a paused
    one, unless it only changes how many tasks there are.
    """
    status = old.update_status
    if status is None or not status.state.is_paused:
        return status
    if spec != old.spec and replace(spec, mode=old.spec.mode, stopped=old.spec.stopped) == old.spec:
        return status
    return resumed(status, state.tasks_of_service(old.id).outdated, now)


def _revised(state: State, service: Service, spec: ServiceSpec, since: Instant) -> Service:
    """The service, updated now, with another spec; it had the present one since then."""
    before, version = service.spec, service.spec_version + 1
    earlier = PreviousSpec(version=service.spec_version, spec=before, created_at=since)
    revised = replace(
        service,
        spec=spec,
        spec_version=version,
        previous_specs=(earlier, *service.previous_specs),
    )
    new_limits = _limits(before) != _limits(spec)
    new_template = _made_from(before) != _made_from(spec)
    if new_limits:
        revised = replace(revised, limits_version=version)
    if new_limits and not _changes_limits(state, service):
        revised = replace(revised, template_version=version, same_template=())
    elif new_template:
        revised = replace(revised, template_version=version, same_template=_same_template(revised))
    if new_limits or new_template:
        tasks = state.tasks_of_service(service.id)
        count = len(tasks.slots) - len(tasks.leaving)
        slots = count if new_limits else _outdated(tasks, revised)
        status = begun(revised, base_version(service), slots, service.updated_at)
        has_tasks = count > 0 and not before.stopped
        revised = replace(revised, update_status=status if has_tasks else None)
    return replace(revised, previous_specs=_kept_specs(state, revised))


def _outdated(tasks: ServiceTasks, service: Service) -> int:
    """How many slots have tasks of another template than the service's."""
    current = sum(count for version, count in tasks.versions.items() if service.is_current(version))
    return max(0, len(tasks.slots) - len(tasks.leaving) - current)


def _same_template(service: Service) -> tuple[VersionRange, ...]:
    """The kept versions before the service's newest that have its template."""
    template = _made_from(service.spec)
    ranges: list[VersionRange] = []
    for previous in reversed(service.previous_specs):
        if _made_from(previous.spec) != template:
            continue
        if ranges and ranges[-1].last + 1 == previous.version:
            ranges[-1] = VersionRange(ranges[-1].first, previous.version)
        else:
            ranges.append(VersionRange(previous.version, previous.version))
    return tuple(ranges)


def remove_service(state: State, ref: str, now: Instant) -> tuple[Writes, Service]:
    """The service marked for removal: name, ports and virtual addresses are free at once, and its
    tasks are shut down. A second removal changes nothing.
    """
    if (unreadable := remove_unreadable(state, SERVICE, ref)) is not None:
        writes, service_id = unreadable
        tasks = [task.id for task in state.tasks_of_service(service_id)]
        stand_in = unreadable_service(state, service_id)
        assert stand_in is not None
        return replace(writes, removed_tasks=tasks), stand_in
    old = find(state, SERVICE, ref)
    if old.removing:
        return Writes(), old
    version = Version(index=old.version.index + 1)
    service = replace(old, removing=True, version=version, updated_at=now, endpoint=Endpoint())
    return Writes(objects=(service,)), service


def _mesh(
    state: State, spec: ServiceSpec, routes: Iterable[str], now: Instant, ids: IdSource
) -> tuple[Writes, NetworkId | None]:
    """The ingress network, and the writes that create it if the spec is the first to need one."""
    if state.ingress_network is not None or not has_ingress_ports(spec.endpoint_spec):
        return Writes(), state.ingress_network
    if INGRESS.name in state.network_of_name:
        raise Conflict(
            f"the routing mesh needs a network {quoted(INGRESS.name)}, but that is another one:"
            " remove it, or create one with --ingress"
        )
    writes, network = create_network(state, INGRESS, routes, now, ids)
    return writes, network.id


def _require_updatable(service: Service, based_on: Version) -> None:
    name = quoted(service.spec.name)
    if service.removing:
        raise Conflict(f"service {name} is being removed")
    if based_on.index != service.version.index:
        raise Conflict(
            f"update out of sequence: service {name} is at version {service.version.index}, "
            f"the update is based on {based_on.index}: read it again"
        )


def _require_same_identity(old: ServiceSpec, new: ServiceSpec) -> None:
    if new.name != old.name:
        reason = f"the name of a service cannot change: expected {quoted(old.name)}"
        raise invalid("--name", new.name, reason)
    if type(new.mode) is not type(old.mode):
        reason = f"the mode of a service cannot change: expected {old.mode.word}"
        raise invalid("--mode", new.mode.word, reason)


def _made_from(spec: ServiceSpec) -> tuple[TaskSpec, tuple[PortConfig, ...]]:
    """The part of a spec that its tasks are made of: not their placement and replacement, limits,
    ports of mode ingress or virtual addresses, but the networks of these.
    """
    networks = tuple(replace(joined, ip="") for joined in spec.task_template.networks)
    template = replace(
        spec.task_template,
        placement=Placement(),
        restart_policy=RestartPolicy(),
        resources=replace(spec.task_template.resources, limits=Limits(), swap_bytes=0),
        networks=networks,
    )
    ports = spec.endpoint_spec.ports
    return template, tuple(port for port in ports if port.publish_mode is PublishMode.HOST)


def _limits(spec: ServiceSpec) -> tuple[Limits, int]:
    resources = spec.task_template.resources
    return resources.limits, resources.swap_bytes


def _changes_limits(state: State, service: Service) -> bool:
    """Whether every agent with tasks of the service changes the limits of running containers."""
    nodes = map(state.nodes.get, state.tasks_of_service(service.id).placed)
    return all(node.description.spoken >= limits.PROTOCOL_LIMITS for node in nodes if node)


def _kept_specs(state: State, service: Service) -> tuple[PreviousSpec, ...]:
    """The newest specs up to the limits, and all those of tasks that have not ended."""
    previous = service.previous_specs
    needed = _needed_versions(state, service)
    alone = replace(service, previous_specs=())
    require_storable(f"service {quoted(service.spec.name)}", alone, RECORD_BYTES_MAX)
    room = RECORD_BYTES_MAX - len(encode(alone))
    room -= sum(_size(p) for p in previous if p.version in needed)
    if room < 0:
        raise Conflict(
            f"service {quoted(service.spec.name)} still has tasks of too many large specs: "
            "wait until the current update has replaced them"
        )
    kept = []
    for count, spec in enumerate(previous):
        if spec.version not in needed:
            room -= _size(spec)
            if count >= limits.PREVIOUS_SPECS or room < 0:
                continue
        kept.append(spec)
    return tuple(kept)


def _needed_versions(state: State, service: Service) -> frozenset[int]:
    """The kept specs of tasks that have not ended, and the one that a failed update returns to."""
    versions = state.tasks_of_service(service.id).unfinished
    needed = [version for version in versions if not service.is_current(version)]
    status = service.update_status
    if status is not None and status.state.is_unfinished:
        needed.append(status.from_version)
    return frozenset(_source(service.previous_specs, version) for version in needed)


def _source(previous: Sequence[PreviousSpec], version: int) -> int:
    """The kept spec that a task of that version is made from: the newest one that is not newer."""
    return next((spec.version for spec in previous if spec.version <= version), 0)


def _size(spec: PreviousSpec) -> int:
    return len(encode(spec)) + _FRAME
