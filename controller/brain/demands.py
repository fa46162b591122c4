"""What tasks require of a node, for the filters. PURE."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

import numpy as np

from controller.brain.allocator.blocks import Blocks, Room
from controller.brain.mounts import task_volumes
from controller.brain.orchestrator.plan import Plan
from controller.brain.scheduler.filters import (
    UNLIMITED,
    Demand,
    container_needs,
    homes,
    kept_layer,
    strict,
)
from controller.brain.scheduler.options import sets_new_options
from controller.brain.scheduler.sources import with_sources
from controller.brain.volumes import leaves_volumes, volume_named
from pyswarm_core.clock import Instant, after
from pyswarm_core.ids import NetworkId, NodeId
from pyswarm_core.indexes.nodes import IntColumn, NodeTable
from pyswarm_core.indexes.tasks import footprint_of, is_placed
from pyswarm_core.limits import (
    FAILURE_SLOTS,
    FAILURE_WINDOW,
    FAILURES_PENALISED,
    LAYERS_PROTOCOL,
    PAYLOADS_PROTOCOL,
    TEMPLATES_PROTOCOL,
    VOLUMES_PROTOCOL,
)
from pyswarm_core.objects import Network, Service
from pyswarm_core.specs import ContainerSpec, ServiceSpec, TaskSpec
from pyswarm_core.state import State
from pyswarm_core.states import Capability, TaskState
from pyswarm_core.templates.specs import has_templates
from pyswarm_core.validation.isolation import has_user_namespace
from pyswarm_core.volumes.allowed import is_confined
from pyswarm_core.volumes.limits import BINDS_PROTOCOL, MOUNT_KINDS_PROTOCOL
from pyswarm_core.volumes.mounts import MountType

_FAILED = frozenset({TaskState.FAILED, TaskState.REJECTED})


def demand_of(state: State, plan: Plan, spec: ServiceSpec, now: Instant) -> Demand:
    """What a task made from this spec requires of a node, given the plan's changes."""
    demand = _demand_of(state, plan, spec, now)
    return with_sources(demand, state, plan.service, now)


def _demand_of(state: State, plan: Plan, spec: ServiceSpec, now: Instant) -> Demand:
    table = state.node_table
    template = spec.task_template
    tasks = state.tasks_of_service(plan.service.id)
    if spec.mode.per_node:  # each of its tasks is bound to a node
        return Demand(template, footprint_of(spec), _per_row([], len(table.number)))
    row_of = table.rows.get
    on_node = np.zeros(len(table.number), np.int64)
    rows = np.array([*map(row_of, tasks.placed)], np.float64)  # NaN: its node was removed
    counts = np.array([*tasks.placed.values()], np.int64)
    known = ~np.isnan(rows)
    on_node[rows[known].astype(np.int64)] = counts[known]
    for task_id, task in plan.changed.items():
        old = state.tasks.get(task_id)
        if (row := row_of(task.node_id, -1)) >= 0:
            on_node[row] += is_placed(task) - (old is not None and is_placed(old))
    for task_id in plan.removed:
        old = state.tasks[task_id]
        if is_placed(old) and (row := row_of(old.node_id, -1)) >= 0:
            on_node[row] -= 1
    failed = [
        row_of(task.node_id, -1)
        for number in islice(reversed(tasks.storied), FAILURE_SLOTS)
        for task in tasks.slots[number]
        if task.state in _FAILED and after(task.status_at, FAILURE_WINDOW) > now
    ]
    failing = _per_row(failed, len(table.number)) >= FAILURES_PENALISED if failed else None
    return Demand(
        template,
        footprint_of(spec),
        on_node,
        None if failing is None else failing.astype(np.int64),
        layer=kept_layer(table, plan.service),
    )


def current_demand(state: State, service: Service, now: Instant, slot: int = 1) -> Demand:
    """What one more task of the service requires of a node now, addresses included. `slot`: that
    of the task, which may have volumes of its own.
    """

    def blocks_of(network_id: NetworkId) -> Blocks | None:
        network = state.networks.get(network_id)
        return Blocks(network, state) if network else None

    demand = demand_of(state, Plan(service), service.spec, now)
    names = task_volumes(state, service, service.spec, slot, _node_of_slot(state, service, slot))
    left = service if leaves_volumes(service) else None
    where = homes(state, names, partial(volume_named, state), service=service, left=left)
    demand = demand._replace(homes=strict(where))
    has_drivers = drives_volumes(state, demand.template)
    return with_rooms(demand, state.node_table, blocks_of, has_drivers=has_drivers)


def _node_of_slot(state: State, service: Service, slot: int) -> NodeId:
    """The node of a slot of a global service, if it is known."""
    held = state.tasks_of_service(service.id).slots.get(slot, ())
    return held[-1].node_id if service.spec.mode.per_node and held else NodeId("")


def has_new_mounts(spec: ContainerSpec) -> bool:
    """Whether agents of protocol 8 would not make its mounts as specified."""
    maps_ids = has_user_namespace(spec)
    return any(
        one.is_of_new_kind or (maps_ids and one.type is MountType.VOLUME) for one in spec.mounts
    )


def drives_volumes(state: State, template: TaskSpec) -> bool:
    """Whether the tasks mount a volume that is no directory, or would create one."""
    for mount in template.container_spec.mounts:
        options = mount.volume_options
        volume = volume_named(state, mount.volume) if mount.volume else None
        if volume.spec.driver_opts if volume else options and options.driver_config.options:
            return True
    return False


def _agent_rooms(demand: Demand, table: NodeTable, *, has_drivers: bool) -> Iterator[Room]:
    """Of options that older agents do not know."""
    if sets_new_options(demand.template) and not table.keeps_layers.all():
        text = f"have an agent that ignores options of its tasks (protocol below {LAYERS_PROTOCOL})"
        yield text, np.where(table.keeps_layers, UNLIMITED, 0)
    if demand.template.container_spec.mounts and not table.mounts.all():
        text = f"have an agent that mounts no volumes (protocol below {VOLUMES_PROTOCOL})"
        yield text, np.where(table.mounts, UNLIMITED, 0)
    if not table.mounts_every_kind.all() and has_new_mounts(demand.template.container_spec):
        text = f"have an agent that mounts no such volumes (protocol below {MOUNT_KINDS_PROTOCOL})"
        yield text, np.where(table.mounts_every_kind, UNLIMITED, 0)
    is_service = demand.layer is None  # templates of containers are not expanded
    if is_service and not table.expands.all() and has_templates(demand.template.container_spec):
        text = f"have an agent that expands no templates (protocol below {TEMPLATES_PROTOCOL})"
        yield text, np.where(table.expands, UNLIMITED, 0)
    if is_confined(demand.template.container_spec.mounts) and not table.confines.all():
        text = f"have an agent that knows no allowed bind paths (protocol below {BINDS_PROTOCOL})"
        yield text, np.where(table.confines, UNLIMITED, 0)
    if demand.template.container_spec.references and not table.has_payloads.all():
        text = f"have an agent without secrets and configs (protocol below {PAYLOADS_PROTOCOL})"
        yield text, np.where(table.has_payloads, UNLIMITED, 0)
    if has_drivers and not table.confines.all():
        text = f"have an agent that knows no options of volumes (protocol below {BINDS_PROTOCOL})"
        yield text, np.where(table.confines, UNLIMITED, 0)


def with_rooms(
    demand: Demand,
    table: NodeTable,
    blocks_of: Callable[[NetworkId], Blocks | None],
    *,
    has_drivers: bool,
) -> Demand:
    """The demand, limited by the room of its networks and by what they require of kernels.
    `has_drivers`: see `drives_volumes`.
    """
    rooms = list(_agent_rooms(demand, table, has_drivers=has_drivers))
    needs: dict[Capability, str] = {}
    chosen = demand.template.task_ips
    for network_id in demand.footprint.networks:
        blocks = blocks_of(network_id)
        if blocks is None:
            text = f"cannot join network {network_id}, which does not exist or is broken"
            rooms.append((text, np.zeros(len(demand.on_node), np.int64)))
            continue
        for capability in blocks.network.needs:
            needs.setdefault(capability, f"network {blocks.network.spec.name}")
        if rows := table.blocked(network_id):
            rooms.append(_blocked(table, rows, blocks.network, len(demand.on_node)))
        rooms += blocks.rooms(table, chosen.get(network_id, ""))
    asked = tuple((name, capability) for capability, name in needs.items())
    own = container_needs(demand.template.container_spec)
    return demand._replace(rooms=tuple(rooms), needs=(*asked, *own))


def _blocked(table: NodeTable, rows: list[int], network: Network, length: int) -> Room:
    """No room on nodes that cannot carry the network, with the reason of the first one."""
    room = np.full(length, UNLIMITED)
    room[rows] = 0
    node = table.nodes[rows[0]]
    told = node.status.faults if node else ()
    reason = next((f.reason for f in told if f.blocks and f.network_id in (network.id, "")), "")
    host = node.description.hostname if node else ""
    return f"cannot carry network {network.spec.name} ({host}: {reason})", room


def _per_row(rows: list[int], length: int) -> IntColumn:
    found = np.array([row for row in rows if row >= 0], np.int64)
    return np.bincount(found, minlength=length).astype(np.int64)
