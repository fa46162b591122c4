"""Which tasks may not stay on their nodes. PURE.

A task leaves its node at once when the node is down, drained or removed, or no longer satisfies a
constraint of its service, or when a volume that it mounts has work. Reservations are not enforced
here: a node with fewer resources than its tasks reserve keeps them, as in Swarm.
"""

from collections.abc import Container, Iterable, Iterator

import numpy as np

from controller.brain.volumes import is_home
from controller.brain.volumework import unusable
from pyswarm_core.clock import NEVER, Instant, after
from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.indexes.tasks import is_desired, stays
from pyswarm_core.limits import EVICTIONS, ORPHAN_AFTER
from pyswarm_core.objects import Service, Task
from pyswarm_core.state import State
from pyswarm_core.states import Availability, NodeState, ends_by_itself, occupies


def misfit(state: State, service: Service, task: Task) -> str:
    """Why the task may not stay on its node, for people; empty if it may (or has no node yet).

    What has its data there stays on a node that is down: a container, and a task whose volume has
    its only copy there. The restart policy decides once the node's agent reports what became of it.
    """
    if not task.node_id:
        return ""
    node = state.nodes.get(task.node_id)
    if node is None:
        return "its node was removed"
    template = service.template(task.spec_version)
    if template is not None and template.volumes and (why := unusable(state, service, task)):
        return why
    host = node.description.hostname
    if node.status.state is NodeState.DOWN and not _has_data_there(state, service, task):
        return f"node {host} is down"
    if node.spec.availability is Availability.DRAIN:
        return f"node {host} is being drained"
    row = state.node_table.rows[task.node_id]
    for constraint in service.spec.task_template.placement.constraints:
        if not state.node_table.satisfying(constraint)[row]:
            return f"node {host} no longer satisfies {constraint}"
    return ""


def _has_data_there(state: State, service: Service, task: Task) -> bool:
    """Whether no other node can run the slot's task, because its data is on this one."""
    return service.spec.mode.is_container or is_home(state, service, task)


def evictions(
    state: State, changed: list[NodeId], left_alone: Container[str] = ()
) -> tuple[dict[ServiceId, dict[int, None]], bool]:
    """The slots to look at because of their nodes, by service; and whether these are all.

    First, slots with tasks on any node that may run nothing or was removed: about EVICTIONS of
    them, without those of services that are `left_alone`. Second, of the `changed` nodes, slots of
    services whose constraints a node violates, and slots with tasks that have not ended on a node
    that is down or drained: a slot does not wait for the end of a task on such a node.
    """
    slots: dict[ServiceId, dict[int, None]] = {}
    found, table = 0, state.node_table
    for task in _on_unfit_nodes(state):
        service = state.services.get(task.service_id)
        if service is None or task.service_id in left_alone:
            continue
        has_data = _has_data_there(state, service, task)
        if has_data and not misfit(state, service, task):
            continue
        if found >= EVICTIONS:
            return slots, False
        found += 1
        slots.setdefault(task.service_id, {})[task.slot] = None
    for node_id in changed:
        row = table.rows.get(node_id)
        unfit = row is not None and (table.gone[row] or table.draining[row])
        for task in state.tasks_of_node(node_id).values():
            # Ended tasks of a removed node may be deleted too.
            if row is None or (unfit and occupies(task.state)) or _violates(state, task):
                slots.setdefault(task.service_id, {})[task.slot] = None
    return slots, True


def _on_unfit_nodes(state: State) -> Iterator[Task]:
    """The tasks that have to leave nodes that may run nothing or were removed."""
    table = state.node_table
    unfit = np.flatnonzero((table.gone | table.draining) & (table.desired_tasks > 0))
    for node_id in (table.ids[row] for row in unfit.tolist()):
        tasks = state.tasks_of_node(node_id).values()
        yield from (task for task in tasks if stays(task))
    for node_id in state.lost_nodes:
        # A task that ended by itself explains why a slot is empty and may stay.
        tasks = state.tasks_of_node(node_id).values()
        yield from (task for task in tasks if not ends_by_itself(task.state))


def _violates(state: State, task: Task) -> bool:
    """Whether the task has not ended and its node does not satisfy its service's constraints."""
    service = state.services.get(task.service_id)
    row = state.node_table.rows.get(task.node_id)
    if service is None or row is None or not occupies(task.state):
        return False
    constraints = service.spec.task_template.placement.constraints
    return any(not state.node_table.satisfying(one)[row] for one in constraints)


def misplaced(state: State, service: Service, most: int) -> tuple[list[int], bool]:
    """The slots whose tasks are on nodes that do not satisfy the service's constraints, about
    `most` of them; and whether these are all.
    """
    constraints = service.spec.task_template.placement.constraints
    if not constraints:
        return [], True
    fits, rows = state.node_table.satisfying_all(constraints), state.node_table.rows
    # By the service's nodes, not by the fleet's: most services have tasks on few nodes.
    tasks = state.tasks_of_service(service.id)
    wrong = {one: None for one in tasks.placed if (row := rows.get(one)) is None or not fits[row]}
    on_them = sum(len(state.tasks_of_node(node_id)) for node_id in wrong)
    held: Iterable[Task] = ()
    if on_them > len(tasks.slots):
        held = (slot[-1] for slot in tasks.slots.values())
    elif wrong:
        held = (task for node_id in wrong for task in state.tasks_of_node(node_id).values())
    slots: list[int] = []
    for task in held:
        if task.node_id in wrong and task.service_id == service.id and is_desired(task):
            if len(slots) >= most:
                return slots, False
            slots.append(task.slot)
    return slots, True


def orphaned_at(state: State, task: Task) -> Instant:
    """When the task counts as orphaned because its node stays down; NEVER if it is not down."""
    node = state.nodes.get(task.node_id)
    if node is None or node.status.state is not NodeState.DOWN:
        return NEVER
    return after(node.status.since, ORPHAN_AFTER)
