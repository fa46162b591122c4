"""Rules about the specs of a service: what of them makes another template, and what a decision may
make of them.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TypeVar

from msgspec.structs import replace

from pyswarm_core.objects import Service, Task
from pyswarm_core.payloads.references import Reference
from pyswarm_core.specs import (
    ContainerMode,
    ContainerSpec,
    Placement,
    PortConfig,
    PublishMode,
    Resources,
    RestartCondition,
    RestartPolicy,
    ServiceSpec,
    TaskSpec,
)
from pyswarm_core.states import TaskState, UpdateState
from tests.sim.placement import Problem
from tests.sim.rules import Rule

T = TypeVar("T")
R = TypeVar("R", bound=Reference)
_U = UpdateState


def template_of(spec: ServiceSpec) -> tuple[TaskSpec, tuple[PortConfig, ...], bool]:
    """What a change of replaces tasks: of a container's networks only whether the mesh is one."""
    networks = tuple(replace(joined, ip="") for joined in spec.task_template.networks)
    is_container = isinstance(spec.mode, ContainerMode)
    template = replace(
        spec.task_template,
        placement=Placement(),
        restart_policy=RestartPolicy(),
        networks=() if is_container else networks,
        container_spec=_as_made(spec.task_template.container_spec),
    )
    ports = spec.endpoint_spec.ports
    of_host = tuple(port for port in ports if port.publish_mode is PublishMode.HOST)
    return template, of_host, is_container and len(of_host) < len(ports)


def _as_made(spec: ContainerSpec) -> ContainerSpec:
    """With the versions of secrets and configs that running containers have got others for."""

    def made(one: R) -> R:
        return replace(one.at(one.made_with or one.id, 0), made_with="", reload="")

    secrets, configs = tuple(map(made, spec.secrets)), tuple(map(made, spec.configs))
    return replace(spec, secrets=secrets, configs=configs)


def is_alike(service: Service, task: Task) -> bool:
    """Whether the spec that the task was made from has the service's template, by comparison."""
    if task.spec_version >= service.spec_version:
        return True
    kept = [one.spec for one in service.previous_specs if one.version == task.spec_version]
    return bool(kept) and template_of(kept[0]) == template_of(service.spec)


def given_up(service: Service, ended: Task) -> bool:
    """Whether the restart policy certainly does not replace a task that ended by itself."""
    policy = service.spec.task_template.restart_policy
    if policy.condition is RestartCondition.NONE:
        return True
    completed = ended.state is TaskState.COMPLETE
    used_up = 0 < policy.max_attempts <= ended.restarts and not policy.window
    return used_up or (completed and policy.condition is RestartCondition.ON_FAILURE)


def in_place_of(spec: ServiceSpec) -> tuple[Resources, list[str], list[str]]:
    """What changes in running containers."""
    references = spec.task_template.container_spec.references
    reloaded = [f"{one.path} {one.id}" for one in references if one.made_with]
    resources, networks = spec.task_template.resources, spec.task_template.networks
    joined = [one.target for one in networks if isinstance(spec.mode, ContainerMode)]
    return Resources(limits=resources.limits, swap_bytes=resources.swap_bytes), joined, reloaded


def rolled_back(old: Service, new: Service) -> Iterator[Problem]:
    """A decision changes a spec only for a rollback: to the one before the update, but for the
    number of its replicas, and whether it is stopped, if users set that since.
    """
    changes = in_place_of(old.spec) != in_place_of(new.spec)
    if new.in_place_version != (new.spec_version if changes else old.in_place_version):
        versions = f"{old.in_place_version} to {new.in_place_version}"
        yield Rule.RECORDED, f"in_place_version of {new.spec.name} is decided: {versions}"
    before, after = old.update_status, new.update_status
    name = new.spec.name
    if before is None or after is None or after.state is not _U.ROLLBACK_STARTED:
        yield Rule.RECORDED, f"the spec of {name} is decided, which is not rolled back"
        return
    kept = [one for one in old.previous_specs if one.version >= before.from_version]
    if before.state is not _U.UPDATING or not kept or kept[-1].version != before.from_version:
        yield Rule.RECORDED, f"{name} is rolled back from {before}"
        return
    if new.spec != _base(old, before.from_version):
        yield Rule.RECORDED, f"{name} is rolled back to a spec that it never had: {new.spec}"


def brought_forward(old: Service, new: Service) -> bool:
    """Whether a decision gave the service newer versions of secrets and configs that it follows,
    which it never had, and nothing else.
    """
    before, after = (one.spec.task_template.container_spec for one in (old, new))
    had = {
        reference.id
        for previous in old.previous_specs
        for reference in previous.spec.task_template.container_spec.references
    }
    moved = [
        (one, other)
        for one, other in zip(before.references, after.references, strict=False)
        if one.id != other.id
    ]
    blank = replace(after, secrets=before.secrets, configs=before.configs)
    template = replace(new.spec.task_template, container_spec=blank)
    return (
        bool(moved)
        and replace(new.spec, task_template=template) == old.spec
        and len(before.references) == len(after.references)
        and not any(one.pinned or other.id in had for one, other in moved)
        and all(one.number < other.number and one.path == other.path for one, other in moved)
    )


def requested_return(old: Service, to: int) -> ServiceSpec | None:
    """The spec to which a rollback returns that a user requests, if there is one. It leaves alone
    whether the service is stopped.
    """
    status, kept = old.update_status, old.previous_specs
    found = next((one.spec for one in kept if one.version == to), None)
    if not to and status is not None and status.state in (_U.UPDATING, _U.PAUSED):
        found = _base(old, status.from_version)
    elif not to:
        now = {"stopped": old.spec.stopped, "name": old.spec.name}
        others = (replace(one.spec, **now) for one in kept)
        found = next((spec for spec in others if spec != old.spec), None)
    return replace(found, stopped=old.spec.stopped, name=old.spec.name) if found else None


def _base(service: Service, version: int) -> ServiceSpec:
    """The spec of that version, with what users set alone since."""
    kept = [one.spec for one in service.previous_specs if one.version >= version]
    specs = [service.spec, *kept]
    return replace(
        specs[-1],
        name=service.spec.name,
        mode=_set_since(specs, lambda spec: spec.mode),
        stopped=_set_since(specs, lambda spec: spec.stopped),
    )


def _set_since(specs: list[ServiceSpec], field: Callable[[ServiceSpec], T]) -> T:
    """What users set alone, not with another template, since the template was that of the oldest of
    the specs (they begin with the newest); else what went with that template last.
    """
    for after, before in pairwise(specs):
        if template_of(after) == template_of(specs[-1]):
            return field(after)
        if field(after) != field(before) and template_of(after) == template_of(before):
            return field(after)
    return field(specs[-1])
