"""The volumes of one task: their names may be templates, e.g. `data-{{.Task.Slot}}`. PURE.

Only what is known before a task has a node decides which volume it mounts: its service and its
slot; of a global service, whose slots belong to nodes, also the node. So a slot has the same
volumes for as long as its service has the same template.
"""

from collections.abc import Iterator

from pyswarm_core.errors import InvalidArgument
from pyswarm_core.ids import NodeId
from pyswarm_core.limits import PENDING_SHOWN, REPLICAS_MAX
from pyswarm_core.objects import Service, Task
from pyswarm_core.specs import ServiceSpec, TaskSpec
from pyswarm_core.state import State
from pyswarm_core.templates.context import Context, is_template, task_context
from pyswarm_core.templates.specs import ANY_SLOT, expanded_volume, of_any_slot, texts_of_mount
from pyswarm_core.volumes.limits import SLOTS_WITH_VOLUMES
from pyswarm_core.volumes.mounts import Mount, volumes_of

_NOWHERE = NodeId("")


def is_per_task(template: TaskSpec) -> bool:
    """Whether the names of its volumes have templates."""
    mounts = template.container_spec.mounts
    return bool(mounts) and any(mount.volume and is_template(mount.source) for mount in mounts)


def slots_at_once(template: TaskSpec) -> int:
    """How many slots one decision looks at whose volumes have templates: each template is expanded
    for each of them.
    """
    mounts = (mount for mount in template.container_spec.mounts if mount.volume)
    count = sum(is_template(text) for mount in mounts for text in texts_of_mount(mount))
    return max(PENDING_SHOWN, SLOTS_WITH_VOLUMES // max(1, count))


def volume_mounts(
    state: State, service: Service, spec: ServiceSpec, slot: int, node_id: NodeId
) -> tuple[Mount, ...]:
    """The mounts of named volumes of a task that is made from this spec of the service. Raises
    InvalidArgument if a template cannot be expanded for it: then there can be no such task.
    """
    mounts = spec.task_template.container_spec.mounts
    named = tuple(mount for mount in mounts if mount.volume)
    if not named or spec.mode.is_container:
        return named
    context = _context(state, service, spec, slot, node_id)
    return tuple(expanded_volume(mount, context) for mount in named)


def task_volumes(
    state: State, service: Service, spec: ServiceSpec, slot: int, node_id: NodeId
) -> tuple[str, ...]:
    """The names of the volumes of a task that is made from this spec of the service; none if there
    can be no such task. Who looks for the users of a volume asks this of every service.
    """
    if not is_per_task(spec.task_template):
        return spec.task_template.volumes
    try:
        return volumes_of(volume_mounts(state, service, spec, slot, node_id))
    except InvalidArgument:
        return ()


def volumes_of_task(state: State, service: Service, task: Task) -> tuple[str, ...]:
    """The names of the volumes of a stored task; none if its spec is no longer kept."""
    spec = service.made_from(task.spec_version)
    return task_volumes(state, service, spec, task.slot, task.node_id) if spec else ()


def volumes_of_spec(state: State, service: Service, spec: ServiceSpec) -> Iterator[str]:
    """The names of the volumes that a spec of the service mounts: of the slots that have tasks; of
    the present spec, or one to come, also of those that it should have.
    """
    if not is_per_task(spec.task_template):
        yield from spec.task_template.volumes
    elif spec.mode.per_node:
        for node in state.nodes.values():
            yield from task_volumes(state, service, spec, node.number, node.id)
    else:
        slots = _slots(state, service, spec)
        for text in _of_any_slot(state, service, spec):
            if ANY_SLOT in text:
                yield from (text.replace(ANY_SLOT, str(slot)) for slot in slots)
            else:
                yield text


def volumes_beside(state: State, service: Service, name: str) -> tuple[str, ...]:
    """The names of the volumes that the service's tasks with the volume of that name mount, with
    this one.
    """
    spec = service.spec
    if not is_per_task(spec.task_template):
        return spec.task_template.volumes
    found = dict[str, None]()
    if spec.mode.per_node:
        for node in state.nodes.values():
            own = task_volumes(state, service, spec, node.number, node.id)
            found.update(dict.fromkeys(own if name in own else ()))
        return tuple(found)
    texts = _of_any_slot(state, service, spec)
    for slot in map(str, _slots(state, service, spec)):
        if any(text.replace(ANY_SLOT, slot) == name for text in texts):
            found.update((text.replace(ANY_SLOT, slot), None) for text in texts)
    return tuple(found)


def _slots(state: State, service: Service, spec: ServiceSpec) -> dict[int, None]:
    """Those with tasks; of the present spec, or one to come, also those that it should have."""
    is_earlier = any(spec is one.spec for one in service.previous_specs)
    replicas = 0 if is_earlier else min(getattr(spec.mode, "replicas", 0), REPLICAS_MAX)
    return dict.fromkeys((*range(1, replicas + 1), *state.tasks_of_service(service.id).slots))


def _of_any_slot(state: State, service: Service, spec: ServiceSpec) -> list[str]:
    """The names of the spec's volumes with ANY_SLOT for the slot; none as of `task_volumes`."""
    context = _context(state, service, spec, 0, _NOWHERE)
    try:
        return of_any_slot(spec.task_template.volumes, context)
    except InvalidArgument:
        return []


def _context(
    state: State, service: Service, spec: ServiceSpec, slot: int, node_id: NodeId
) -> Context:
    node = state.nodes.get(node_id) if spec.mode.per_node else None
    described = node.description if node is not None else None
    return task_context(
        service_id=service.id,
        service_name=spec.name,
        service_labels=spec.labels,
        slot=slot,
        is_global=spec.mode.per_node,
        node_id=node_id,
        hostname=described.hostname if described else "",
        os=described.platform.os if described else "",
        architecture=described.platform.architecture if described else "",
    )
