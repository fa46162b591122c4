"""Creating, updating and removing services. PURE: state and request in, writes or an error out.

Every accepted change increases `version.index` by one; an update names the index that it is based
on and is refused if another came first. `spec_version` increases with every changed spec,
`template_version` only if the change needs new tasks: not if only their limits change, or the
networks of a container, which agents set in running containers. Previous specs are kept for a
rollback and for the tasks still made from them, within the size of one stored value.

Virtual addresses and ports are allocated here and not later, so that a conflict is the answer to
the request. The first service that publishes through the routing mesh creates its network.
"""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from controller.api.changes.attachments import attached
from controller.api.changes.names import random_name
from controller.api.changes.networks import INGRESS, create_network
from controller.api.changes.unreadable import remove_unreadable, unreadable_service
from controller.api.changes.volumes import named_mounts
from controller.api.payloads.references import resolved
from controller.api.queries.lookup import find
from controller.brain.allocator.endpoints import allocate_endpoint
from controller.brain.allocator.joining import require_joinable
from controller.brain.dependencies.requests import require_dependencies
from controller.brain.orchestrator.container_service import has_lost_layer, removed
from controller.brain.revisions import (
    RECORD_BYTES_MAX,
    failed_update_target,
    resumed,
    revised,
    rolled_back,
    slots_left,
)
from controller.brain.storable import require_storable
from controller.brain.volumes import admitted
from pyswarm_core import limits
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import AlreadyExists, Conflict, Unavailable, invalid, quoted
from pyswarm_core.ids import IdSource, NetworkId, NodeId, ServiceId
from pyswarm_core.kinds import SERVICE
from pyswarm_core.objects import Endpoint, PreviousSpec, Service, UpdateStatus, Version
from pyswarm_core.ports import has_ingress_ports
from pyswarm_core.specs import (
    RegistryLogin,
    ServiceSpec,
)
from pyswarm_core.state import State
from pyswarm_core.states import UpdateState
from pyswarm_core.validation import login_problems, require, service_problems

replace = msgspec.structs.replace


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

    Raises InvalidArgument, AlreadyExists (the name), NotFound (a network, a secret, a config),
    Conflict (a port or an address is taken; see `create_network` for `routes`), Unavailable (too
    many services).
    """
    if len(state.services) >= limits.SERVICES_MAX:
        raise Unavailable(f"there are {limits.SERVICES_MAX} services, which is the limit")
    (service_id,) = ids.draw(1)
    if not spec.name:
        spec = replace(spec, name=random_name(service_id, state.service_of_name))
    require([*service_problems(spec), *(login_problems(login) if login else ())])
    _require_free_name(state, None, spec)
    require_dependencies(state, spec)
    mesh, ingress = _mesh(state, spec, routes, now, ids)
    spec = resolved(state, named_mounts(attached(state, spec, ingress), ids))
    service = Service(
        id=ServiceId(service_id),
        spec=spec,
        version=Version(index=1),
        created_at=now,
        updated_at=now,
        endpoint=allocate_endpoint(state, ServiceId(service_id), spec, Endpoint()),
        registry_login=login,
    )
    service = admitted(state, service)
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
    _require_free_name(state, old.spec, spec)
    require_dependencies(state, spec)
    mesh, ingress = _mesh(state, spec, routes, now, ids)
    spec = resolved(state, named_mounts(attached(state, spec, ingress, old.spec), ids))
    login = login or old.registry_login
    endpoint = allocate_endpoint(state, old.id, spec, old.endpoint)
    require_joinable(state, old, spec)
    service = replace(
        old,
        registry_login=login,
        version=Version(index=old.version.index + 1),
        updated_at=now,
        endpoint=endpoint,
        update_status=_updated_status(state, old, spec, now),
        pinned_node=_pinned_node(state, old, spec),
    )
    if (spec, login, endpoint) != (old.spec, old.registry_login, old.endpoint):
        since = old.updated_at if old.previous_specs else old.created_at
        service = admitted(state, revised(state, service, spec, since))
    elif service.update_status is old.update_status:
        return Writes(), old
    return replace(mesh, objects=(*mesh.objects, service)), service


def _pinned_node(state: State, old: Service, spec: ServiceSpec) -> NodeId:
    """The node of a container's writable layer. If that was removed, and the layer with it, one
    that is started runs anywhere, from its image.
    """
    starts = old.spec.stopped and not spec.stopped
    return NodeId("") if starts and has_lost_layer(state, old) else old.pinned_node


def _updated_status(
    state: State, old: Service, spec: ServiceSpec, now: Instant
) -> UpdateStatus | None:
    """The update's status after an update of the spec that needs no new tasks: it resumes a paused
    one, unless it only changes how many tasks there are.
    """
    status = old.update_status
    if status is None or not old.is_paused:
        return status
    if spec != old.spec and replace(spec, mode=old.spec.mode, stopped=old.spec.stopped) == old.spec:
        return status
    tasks = state.tasks_of_service(old.id)
    return resumed(status, slots_left(tasks, old), now, waiting=tasks.pending)


class Rollback(NamedTuple):
    """A request to return to an earlier spec of a service."""

    ref: str
    based_on: Version | None = None
    """None: whatever the service's version is."""
    to: int = 0
    """The spec version; 0: the one that an update which goes on or is paused began from, otherwise
    the one before the present.
    """


def rollback_service(
    state: State, rollback: Rollback, routes: Iterable[str], now: Instant, ids: IdSource
) -> tuple[Writes, Service]:
    """The service with an earlier spec, as a new version. Tasks that were made from it stay; a
    stopped service stays stopped, and one that runs goes on.

    Raises NotFound (also a network of that spec), InvalidArgument (a version that is not kept),
    Conflict (changed since it was read, or being removed; it has no earlier spec; it was rolled
    back automatically, and no version is named; a port or an address is taken).
    """
    old = find(state, SERVICE, rollback.ref)
    _require_updatable(old, rollback.based_on or old.version)
    target = rollback_target(old, rollback.to)
    mesh, ingress = _mesh(state, target.spec, routes, now, ids)
    target = replace(target, spec=attached(state, target.spec, ingress, target.spec))
    require_joinable(state, old, target.spec)
    service = rolled_back(state, old, target, now, "manually requested rollback")
    service = admitted(state, service)
    return replace(mesh, objects=(*mesh.objects, service)), service


def rollback_target(service: Service, to: int) -> PreviousSpec:
    """The spec that a rollback to version `to` returns to; 0: the one before. Raises Conflict,
    InvalidArgument.
    """
    known = service.previous_specs
    if not known:
        raise _nothing_before(service)
    found = next((one for one in known if one.version == to), None) if to else _before(service)
    if found is None:
        kept = ", ".join(str(one.version) for one in reversed(known))
        raise invalid("--to", to, f"expected an earlier version that is kept: {kept}", "version")
    return replace(found, spec=replace(found.spec, stopped=service.spec.stopped))


def _before(service: Service) -> PreviousSpec:
    """What a rollback that names no version returns to. Stops and starts do not count as versions.

    Raises Conflict if the failure action of an update has returned to it already: the version
    before the present is then the one that failed.
    """
    status, spec = service.update_status, service.spec
    goes_on = status is not None and status.state in (UpdateState.UPDATING, UpdateState.PAUSED)
    if status is not None and goes_on and status.from_version:
        return failed_update_target(service)
    present = {service.spec_version}
    for one in service.previous_specs:
        if replace(one.spec, stopped=spec.stopped) != spec:
            break
        present.add(one.version)
    else:
        raise _nothing_before(service)
    if status is not None and status.automatic and status.to_version in present:
        to = f" to version {status.from_version}" if status.from_version else ""
        raise Conflict(
            f"service {quoted(spec.name)} was already rolled back{to}: name a version with --to,"
            f" see `pyswarm service history {spec.name}`"
        )
    return one


def _nothing_before(service: Service) -> Conflict:
    name = service.spec.name
    return Conflict(
        f"service {quoted(name)} has no previous spec to roll back to: pyswarm service history"
        f" {name} lists its specs"
    )


def remove_service(
    state: State, ref: str, now: Instant, *, volumes: bool = False
) -> tuple[Writes, Service]:
    """The service marked for removal: name, ports and virtual addresses are free at once, and its
    tasks are shut down. A second removal changes nothing. `volumes`: a container's anonymous
    volumes go with it.
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
    service = replace(removed(old, now), remove_volumes=volumes)
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
    if new.name != old.name and not old.mode.is_container:
        reason = f"the name of a service cannot change: expected {quoted(old.name)}"
        raise invalid("--name", new.name, reason)
    if type(new.mode) is not type(old.mode):
        reason = f"the mode of a service cannot change: expected {old.mode.word}"
        raise invalid("--mode", new.mode.word, reason)


def _require_free_name(state: State, old: ServiceSpec | None, new: ServiceSpec) -> None:
    """A new or renamed service gets a name that no other has."""
    if new.name in state.service_of_name and (old is None or new.name != old.name):
        taken = state.service_of_name[new.name]
        raise AlreadyExists(f"service {quoted(new.name)} exists already, with the id {taken}")
