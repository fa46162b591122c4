"""Creating, updating and removing services. PURE: state and request in, writes or an error out.

Every accepted change increases `version.index` by one; an update names the index that it is based
on and is refused if another came first. `spec_version` increases with every changed spec,
`template_version` only if the change affects running tasks. Previous specs are kept for a rollback
and for the tasks still made from them, within the size of one stored value.

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
from pyswarm_core import limits
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import AlreadyExists, Conflict, Unavailable, invalid, quoted
from pyswarm_core.ids import IdSource, NetworkId, ServiceId
from pyswarm_core.kinds import SERVICE, encode
from pyswarm_core.objects import Endpoint, PreviousSpec, Service, Version
from pyswarm_core.ports import has_ingress_ports
from pyswarm_core.specs import (
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
    if (spec, login, endpoint) == (old.spec, old.registry_login, old.endpoint):
        return Writes(), old
    spec_version = old.spec_version + 1
    needs_new_tasks = _made_from(old.spec) != _made_from(spec)
    service = replace(
        old,
        spec=spec,
        registry_login=login,
        version=Version(index=old.version.index + 1),
        updated_at=now,
        spec_version=spec_version,
        template_version=spec_version if needs_new_tasks else old.template_version,
        previous_specs=(PreviousSpec(version=old.spec_version, spec=old.spec), *old.previous_specs),
        endpoint=endpoint,
    )
    service = replace(service, previous_specs=_kept_specs(state, service))
    return replace(mesh, objects=(*mesh.objects, service)), service


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
    """The part of a spec that its tasks are made of: not their placement and replacement, ports of
    mode ingress or virtual addresses, but the networks of these.
    """
    networks = tuple(replace(joined, ip="") for joined in spec.task_template.networks)
    template = replace(
        spec.task_template,
        placement=Placement(),
        restart_policy=RestartPolicy(),
        networks=networks,
    )
    ports = spec.endpoint_spec.ports
    return template, tuple(port for port in ports if port.publish_mode is PublishMode.HOST)


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
    versions = state.tasks_of_service(service.id).unfinished
    outdated = [version for version in versions if version < service.template_version]
    return frozenset(_source(service.previous_specs, version) for version in outdated)


def _source(previous: Sequence[PreviousSpec], version: int) -> int:
    """The kept spec that a task of that version is made from: the newest one that is not newer."""
    return next((spec.version for spec in previous if spec.version <= version), 0)


def _size(spec: PreviousSpec) -> int:
    return len(encode(spec)) + _FRAME
