"""Tasks that need a node, grouped by what they need of it. PURE."""

from collections.abc import Iterable
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from controller.brain.orchestrator.plan import Vacancy
from pyswarm_core.ids import NodeId
from pyswarm_core.objects import Service, Task
from pyswarm_core.specs import ServiceSpec

_NOWHERE = NodeId("")


class UnassignedTask(Struct, frozen=True, gc=False):
    """A task without a node: a stored one, or one to be made."""

    vacancy: Vacancy
    task: Task | None = None


class Alike(NamedTuple):
    """Tasks that are made from the same template; all are bound to nodes, or none is."""

    spec: ServiceSpec
    is_bound: bool
    unassigned: list[UnassignedTask]


def unassigned_of(task: Task) -> UnassignedTask:
    """The stored task, which has no node."""
    vacancy = Vacancy(task.slot, task.spec_version, task.desired_state, task.restarts, task.node_id)
    return UnassignedTask(vacancy, task)


def alike(service: Service, unassigned: list[UnassignedTask]) -> Iterable[Alike]:
    """The tasks in groups of those with the same template and binding."""
    groups: dict[tuple[int, bool], list[UnassignedTask]] = {}
    current = service.template_version
    for one in unassigned:
        version, is_bound = one.vacancy.version, one.vacancy.node_id != _NOWHERE
        key = (current if service.is_current(version) else version, is_bound)
        group = groups.get(key)
        if group is None:
            group = groups[key] = []
        group.append(one)
    for (version, is_bound), group in groups.items():
        spec = service.made_from(version)
        if spec is None:
            raise LookupError(f"spec version {version} of the service is no longer kept")
        yield Alike(_placed_now(service, spec), is_bound, group)


def _placed_now(service: Service, spec: ServiceSpec) -> ServiceSpec:
    """An earlier spec of the service with its current placement: the constraints of the service
    hold for tasks of every template (see `enforce.misfit`).
    """
    if spec is service.spec:
        return spec
    placement = service.spec.task_template.placement
    return replace(spec, task_template=replace(spec.task_template, placement=placement))
