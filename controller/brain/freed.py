"""Whether the end of a task lets its node take another one. PURE."""

from collections.abc import Callable

from controller.brain.allocator.blocks import Blocks
from controller.brain.scheduler.filters import Demand, images_of
from controller.brain.scheduler.ledger import Ledger
from pyswarm_core.ids import NetworkId
from pyswarm_core.indexes.tasks import Footprint
from pyswarm_core.objects import Task
from pyswarm_core.ports import HostPort, overlaps
from pyswarm_core.state import State
from pyswarm_core.states import occupies


def makes_room(
    state: State,
    ledger: Ledger,
    blocks_of: Callable[[NetworkId], Blocks | None],
    demand: Demand,
    task: Task,
) -> bool:
    """Whether the node could take one of the demanded tasks if the given task had ended: the node
    lacks nothing but what that task uses. The filters are those of `scheduler.filters.capacity`.
    """
    table = state.node_table
    row = table.rows.get(task.node_id)
    if row is None or not table.schedulable[row]:
        return False
    own, needs, placement = state.footprint(task), demand.footprint, demand.template.placement
    most = placement.max_replicas
    return (
        int(ledger.free_tasks[row]) + 1 > 0
        and needs.nano_cpus <= max(0, int(ledger.free_cpus[row]) + own.nano_cpus)
        and needs.memory_bytes <= max(0, int(ledger.free_memory[row]) + own.memory_bytes)
        and all(
            count <= int(ledger.free_generic(kind)[row]) + dict(own.generic).get(kind, 0)
            for kind, count in needs.generic
        )
        and (most == 0 or int(demand.on_node[row]) - 1 < most)
        and all(bool(table.satisfying(one)[row]) for one in placement.constraints)
        and not any(bool(table.lacking(what)[row]) for _, what in demand.needs)
        and (demand.layer is None or bool(demand.layer.rows[row]))
        and all(bool(home.rows[row]) for home in demand.homes)
        and not (
            bool(table.image_disk_full[row])
            and bool(table.without_room_for(images_of(demand.template))[row])
        )
        and not any(bool((one.lacking | one.waiting)[row]) for one in demand.sources)
        and not _others_hold(state, task, needs.ports)
        and all(
            _joins(state, blocks_of(one), own, row, demand.template.task_ips.get(one, ""))
            for one in needs.networks
        )
    )


def _others_hold(state: State, task: Task, ports: tuple[HostPort, ...]) -> bool:
    """Whether another task of the node holds one of the ports."""
    if not ports:
        return False
    return any(
        (held.protocol, held.port) == (port.protocol, port.port)
        and overlaps(held.host_ip, port.host_ip)
        for other in state.tasks_of_node(task.node_id).values()
        if other.id != task.id and occupies(other.state)
        for held in state.footprint(other).ports
        for port in ports
    )


def _joins(state: State, blocks: Blocks | None, own: Footprint, row: int, address: str) -> bool:
    """Whether the row can carry the network, with an address: a free one, or the task's own."""
    table = state.node_table
    if blocks is None or row in table.blocked(blocks.network.id):
        return False
    if any(table.lacking(capability)[row] for capability in blocks.network.needs):
        return False
    freed = int(blocks.network.id in own.networks)
    return blocks.fits(table.ids[row], int(table.number[row]), freed, address)
