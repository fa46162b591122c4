"""Specs of a service that follow each other: what a change of the spec does to its tasks, which
earlier specs are kept, and what a rollback returns to. PURE.
"""

from collections.abc import Sequence
from itertools import pairwise, takewhile

from msgspec.structs import replace

from controller.brain.allocator.endpoints import allocate_endpoint
from controller.brain.dependencies.cycles import cycle_of
from controller.brain.payloads import missing_in, title_of
from controller.brain.storable import require_storable
from pyswarm_core import limits
from pyswarm_core.clock import Instant
from pyswarm_core.errors import Conflict, quoted
from pyswarm_core.indexes.dependents import awaits
from pyswarm_core.indexes.tasks import ServiceTasks
from pyswarm_core.kinds import encode
from pyswarm_core.objects import PreviousSpec, Service, UpdateStatus, Version, VersionRange
from pyswarm_core.ports import has_ingress_ports
from pyswarm_core.specs import (
    HOST_NETWORK,
    ContainerSpec,
    Limits,
    Placement,
    PortConfig,
    PublishMode,
    ReplicatedMode,
    RestartPolicy,
    ServiceSpec,
    TaskSpec,
)
from pyswarm_core.stacks.dependencies import Gate
from pyswarm_core.state import State
from pyswarm_core.states import UpdateState
from pyswarm_core.templates.specs import names_labels

RECORD_BYTES_MAX = limits.VALUE_BYTES_MAX - 4096
"""A stored service with all its previous specs, with room for its later changes."""
_FRAME = 8
"""Bytes of a message in a message: its tag and its length."""


def begun(
    service: Service, from_version: int, slots: int, now: Instant, *, waiting: int = 0
) -> UpdateStatus:
    """The status of an update of so many slots to the service's current template and limits. It
    goes on with what an automatic rollback to the same version left, if it did.
    """
    to_version = max(service.template_version, service.in_place_version)
    former = service.update_status
    is_left = former is not None and former.to_version == to_version and former.automatic
    return UpdateStatus(
        state=UpdateState.UPDATING,
        started_at=now,
        message="update in progress",
        from_version=from_version,
        to_version=to_version,
        slots=slots,
        automatic=is_left,
        waiting=waiting,
    )


def resumed(status: UpdateStatus, slots: int, now: Instant, *, waiting: int) -> UpdateStatus:
    """The status of a paused update that goes on; earlier failures do not count."""
    rolls_back = status.state.is_rollback
    return UpdateStatus(
        state=UpdateState.ROLLBACK_STARTED if rolls_back else UpdateState.UPDATING,
        started_at=now,
        message="rollback in progress" if rolls_back else "update in progress",
        from_version=status.from_version,
        to_version=status.to_version,
        slots=slots,
        automatic=status.automatic,
        waiting=waiting,
    )


def base_version(service: Service) -> int:
    """The spec version that a failed update of the service's present spec returns to: the last one
    whose update was completed.
    """
    status = service.update_status
    unfinished = status is not None and status.state.is_unfinished
    known = status.from_version if status is not None and unfinished else 0
    return known or service.spec_version


def unrecorded_base(service: Service) -> int:
    """The same for an update that no request began: the newest kept spec with another template.
    0, which no rollback returns to, if an update to the present spec was completed before.
    """
    if service.update_status is not None:
        return 0
    others = [one.version for one in service.previous_specs if not service.is_current(one.version)]
    return max(others, default=0)


def revised(state: State, service: Service, spec: ServiceSpec, since: Instant) -> Service:
    """The service, changed now (`updated_at`), with another spec; it had the present one since
    then. A change of the template begins an update of its tasks.

    Raises Conflict: the specs of its tasks do not fit into the store.
    """
    before, version = service.spec, service.spec_version + 1
    earlier = PreviousSpec(version=service.spec_version, spec=before, created_at=since)
    changed = replace(
        service,
        spec=spec,
        spec_version=version,
        previous_specs=(earlier, *service.previous_specs),
    )
    changed = replace(changed, gate=_gate(service, spec))
    if before.stopped and not spec.stopped:
        changed = replace(changed, started_at=service.updated_at)
    changed_in_place = in_place(before) != in_place(spec)
    new_template = made_from(before) != made_from(spec)
    if changed_in_place:
        changed = replace(changed, in_place_version=version)
    if new_template:
        changed = replace(changed, template_version=version, same_template=_same_template(changed))
    if changed_in_place or new_template:
        tasks = state.tasks_of_service(service.id)
        count = len(tasks.slots) - len(tasks.leaving)
        slots = count if changed_in_place else outdated_slots(tasks, changed)
        base, waiting = base_version(service), tasks.pending
        status = begun(changed, base, slots, service.updated_at, waiting=waiting)
        reaches_tasks = not before.stopped or service.is_updating
        status_after = status if count > 0 and reaches_tasks else None
        changed = replace(changed, update_status=status_after)
    return replace(changed, previous_specs=_kept_specs(state, changed))


def _gate(service: Service, spec: ServiceSpec) -> Gate:
    """What the service with another spec has seen of its dependencies. One that starts has seen
    that none of their conditions holds; tasks of earlier specs that had not to wait do not wait.
    """
    before, gate = service.spec, service.gate
    if (before.stopped and not spec.stopped) or (_is_empty(before) and not _is_empty(spec)):
        return replace(gate, released_version=0)
    if spec.depends_on and not awaits(service):
        return replace(gate, released_version=service.spec_version)
    return gate


def _is_empty(spec: ServiceSpec) -> bool:
    return isinstance(spec.mode, ReplicatedMode) and not spec.mode.replicas


def rolled_back(
    state: State,
    service: Service,
    target: PreviousSpec,
    now: Instant,
    message: str,
    *,
    automatic: bool = False,
) -> Service:
    """The service with the spec of an earlier version again; its tasks that still have the template
    of that version stay.

    Raises Conflict: a network, secret, config, port or address that the spec requires is not there
    any more; or its dependencies have come to depend on the service.
    """
    spec = replace(target.spec, name=service.spec.name)
    if path := cycle_of(state, spec):
        raise Conflict(f"services depend on each other in a circle: {' → '.join(path)}")
    for network_id in spec.task_template.overlays:
        if network_id not in state.networks:
            raise Conflict(f"network {network_id} of spec version {target.version} was removed")
    if (missing := missing_in(state, spec)) is not None:
        raise Conflict(f"{title_of(missing)} of spec version {target.version} was removed")
    endpoint = allocate_endpoint(state, service.id, spec, service.endpoint)
    since = service.updated_at if service.previous_specs else service.created_at
    version = Version(index=service.version.index + 1)
    changed = replace(service, endpoint=endpoint, version=version, updated_at=now, updated_by=None)
    changed = revised(state, changed, spec, since)
    begun_now = changed.update_status
    slots = outdated_slots(state.tasks_of_service(service.id), changed)
    if begun_now is not None and begun_now.to_version == changed.spec_version:
        slots = begun_now.slots  # with those whose limits change in their containers
    status = UpdateStatus(
        state=UpdateState.ROLLBACK_STARTED,
        started_at=now,
        message=message,
        from_version=target.version,
        to_version=changed.spec_version,
        slots=slots,
        automatic=automatic,
        waiting=state.tasks_of_service(service.id).pending,
    )
    if automatic:  # what runs again has waited before
        gate = replace(changed.gate, released_version=changed.spec_version)
        changed = replace(changed, gate=gate)
    return replace(changed, update_status=status)


def failed_update_target(service: Service) -> PreviousSpec:
    """The spec that the service's failed update returns to. The number of replicas and `stopped`
    stay if they were changed since, by themselves.

    Raises Conflict: that spec is not kept.
    """
    version = service.update_status.from_version if service.update_status is not None else 0
    if not version:
        raise Conflict("its spec was rolled out before, or no earlier one is kept")
    target = next((one for one in service.previous_specs if one.version == version), None)
    if target is None:
        raise Conflict(f"spec version {version} is not kept")
    specs = _specs_since(service, target)
    mode, stopped = specs[0].mode, specs[0].stopped
    for before, after in pairwise(specs):
        if not _begins_update(before, after):
            mode = after.mode if after.mode != before.mode else mode
            stopped = after.stopped if after.stopped != before.stopped else stopped
    return replace(target, spec=replace(target.spec, mode=mode, stopped=stopped))


def _specs_since(service: Service, target: PreviousSpec) -> list[ServiceSpec]:
    """The specs since the last one with the target's template and limits, that one first, up to the
    service's present one. They include those of an update that the failed one replaced; the last
    with the target's template is a later one than the target if a rollback has returned to it.
    """
    later = [one.spec for one in service.previous_specs if one.version > target.version]
    newest_first = (service.spec, *later, target.spec)
    other = list(takewhile(lambda spec: _begins_update(spec, target.spec), newest_first))
    return [newest_first[len(other)], *reversed(other)]


def _begins_update(before: ServiceSpec, after: ServiceSpec) -> bool:
    """Whether the change has to reach tasks that run: it is one of the template or of limits."""
    return made_from(before) != made_from(after) or in_place(before) != in_place(after)


def outdated_slots(tasks: ServiceTasks, service: Service) -> int:
    """How many slots have tasks of another template than the service's."""
    current = sum(count for version, count in tasks.versions.items() if service.is_current(version))
    return max(0, len(tasks.slots) - len(tasks.leaving) - current)


def slots_left(tasks: ServiceTasks, service: Service) -> int:
    """How many slots a paused update of the service has yet to update: also those of tasks that
    ended for good, and those whose limits have yet to change or cannot.
    """
    rollout = tasks.rollout
    limited = len(rollout.refusing) + len(rollout.limited) if rollout is not None else 0
    return outdated_slots(tasks, service) + limited


def _same_template(service: Service) -> tuple[VersionRange, ...]:
    """The kept versions before the service's newest that have its template."""
    template = made_from(service.spec)
    ranges: list[VersionRange] = []
    for previous in reversed(service.previous_specs):
        if made_from(previous.spec) != template:
            continue
        if ranges and ranges[-1].last + 1 == previous.version:
            ranges[-1] = VersionRange(ranges[-1].first, previous.version)
        else:
            ranges.append(VersionRange(previous.version, previous.version))
    return tuple(ranges)


def made_from(
    spec: ServiceSpec,
) -> tuple[TaskSpec, tuple[PortConfig, ...], bool, dict[str, str]]:
    """The part of a spec that its tasks are made of: not their placement and replacement, limits,
    ports of mode ingress or virtual addresses, but the networks of these; the service's labels, if
    templates name them. Of a container only what it has a network namespace for, and whether it is
    on the ingress network.
    """
    networks = tuple(replace(joined, ip="") for joined in spec.task_template.networks)
    meshed = False
    if spec.mode.is_container:
        networks = tuple(joined for joined in networks if joined.target == HOST_NETWORK)
        meshed = has_ingress_ports(spec.endpoint_spec)
    template = replace(
        spec.task_template,
        placement=Placement(),
        restart_policy=RestartPolicy(),
        resources=replace(spec.task_template.resources, limits=Limits(), swap_bytes=0),
        networks=networks,
        container_spec=_without_reloads(spec.task_template.container_spec),
    )
    ports = spec.endpoint_spec.ports
    of_host = tuple(port for port in ports if port.publish_mode is PublishMode.HOST)
    named = not spec.mode.is_container and names_labels(spec.task_template.container_spec)
    return template, of_host, meshed, spec.labels if named else {}


def _without_reloads(spec: ContainerSpec) -> ContainerSpec:
    if not spec.references:
        return spec
    secrets = tuple([one.of_template for one in spec.secrets])
    return replace(spec, secrets=secrets, configs=tuple([one.of_template for one in spec.configs]))


def in_place(spec: ServiceSpec) -> tuple[object, ...]:
    """The part of a spec that agents change in running containers: limits; secrets and configs
    whose versions came by `--reload`; of a container also its networks, each with the address that
    it must have.
    """
    template = spec.task_template
    networks = template.networks if spec.mode.is_container else ()
    joined = tuple((one.target, one.task_ip) for one in networks)
    reloaded = tuple(
        [(one.path, one.id) for one in template.container_spec.references if one.made_with]
    )
    return template.resources.limits, template.resources.swap_bytes, joined, reloaded


def _kept_specs(state: State, service: Service) -> tuple[PreviousSpec, ...]:
    """The newest specs up to the limits, and all those of tasks that have not ended."""
    previous = service.previous_specs
    needed = _needed_versions(state, service)
    alone = replace(service, previous_specs=())
    size = require_storable(f"service {quoted(service.spec.name)}", alone, RECORD_BYTES_MAX)
    room = RECORD_BYTES_MAX - size
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
