"""The volumes of one task: their names may be templates, e.g. `data-{{.Task.Slot}}`. PURE.

Only what is known before a task has a node decides which volume it mounts: its service and its
slot; of a global service, whose slots belong to nodes, also the node. So a slot has the same
volumes for as long as its service has the same template.
"""

from collections.abc import Iterable, Iterator, Sequence

from pyswarm_core.errors import InvalidArgument
from pyswarm_core.ids import NodeId
from pyswarm_core.limits import PENDING_SHOWN, REPLICAS_MAX
from pyswarm_core.objects import Service, Task
from pyswarm_core.specs import ServiceSpec, TaskSpec
from pyswarm_core.state import State
from pyswarm_core.templates.context import Context, is_template, shows_plainly, task_context
from pyswarm_core.templates.specs import (
    ANY_SLOT,
    SLOT,
    expand_of_mount,
    expanded_volume,
    names_labels,
    of_any_slot,
    texts_of_mount,
)
from pyswarm_core.validation.templates.problems import OF_NODE
from pyswarm_core.volumes.limits import SLOTS_WITH_VOLUMES
from pyswarm_core.volumes.mounts import Mount, volumes_of

_NOWHERE = NodeId("")
_MARKS = ("\1", "\2", "\3", "\4")
"""Of a node's hostname, id, architecture and operating system, as its platform has them."""


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
        for _, names in names_of_nodes(state, service, spec):
            yield from names
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
        for _, own in names_of_nodes(state, service, spec):
            found.update(dict.fromkeys(own if name in own else ()))
        return tuple(found)
    texts = _of_any_slot(state, service, spec)
    for slot in map(str, _slots(state, service, spec)):
        if any(text.replace(ANY_SLOT, slot) == name for text in texts):
            found.update((text.replace(ANY_SLOT, slot), None) for text in texts)
    return tuple(found)


def names_of_nodes(
    state: State, service: Service, spec: ServiceSpec
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Each node's number, and the volumes of its task, of a global service. Names that only show
    what is of the node are expanded once for all nodes.
    """
    texts = spec.task_template.volumes
    if not all(shows_plainly(text, field) for text in texts for field in (*OF_NODE, SLOT)):
        for node in state.nodes.values():
            yield node.number, task_volumes(state, service, spec, node.number, node.id)
        return
    try:
        marked = [expand_of_mount(text, _anywhere(service, spec)) for text in texts]
    except InvalidArgument:
        return
    shown = [(text, [at for at, mark in enumerate(_MARKS) if mark in text]) for text in marked]
    for node in state.nodes.values():
        platform = node.description.platform
        values = node.description.hostname, node.id, platform.architecture, platform.os
        yield node.number, tuple(_filled(text, marks, values) for text, marks in shown)


def names_of_slots(
    state: State, service: Service, spec: ServiceSpec, slots: Iterable[int]
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The volumes of the task of each slot, of a service that is not global."""
    texts = _of_any_slot(state, service, spec)
    for slot in slots:
        yield slot, tuple(text.replace(ANY_SLOT, str(slot)) for text in texts)


def ever_mounts(state: State, service: Service, name: str) -> bool:
    """Whether a spec of the service mounts the volume, also an earlier one."""
    looked: list[object] = []
    for spec in (service.spec, *[one.spec for one in service.previous_specs]):
        # Of the same names an earlier spec has no other slots.
        template = spec.task_template
        labels = spec.labels if names_labels(template.container_spec) else {}
        key = template.volumes, labels, spec.mode.per_node
        if key not in looked:
            looked.append(key)
            if name in volumes_of_spec(state, service, spec):
                return True
    return False


def _filled(text: str, marks: Iterable[int], values: Sequence[str]) -> str:
    for at in marks:
        text = text.replace(_MARKS[at], values[at])
    return text


def _anywhere(service: Service, spec: ServiceSpec) -> Context:
    """With a mark for each value that is of the node; the slot is the node's id."""
    hostname, node_id, architecture, os = _MARKS
    return task_context(
        service_id=service.id,
        service_name=spec.name,
        service_labels=spec.labels,
        slot=0,
        is_global=True,
        node_id=node_id,
        hostname=hostname,
        os=os,
        architecture=architecture,
    )


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
