"""Networks that a container joins while its task runs: whether its node can carry them. PURE.

A task that is placed runs where its networks have room. A container's task has its node already, so
what that node lacks is the answer to the request. The decision that follows gives the node its
blocks (`controller/brain/placing.py::Placing.join`).
"""

from collections.abc import Iterator
from ipaddress import IPv4Address

from controller.brain.allocator.blocks import Blocks
from controller.brain.allocator.subnets import range_of
from pyswarm_core.errors import Conflict, Taken, quoted
from pyswarm_core.ids import NetworkId
from pyswarm_core.limits import BRIDGE_PORTS
from pyswarm_core.objects import Network, Node, Service, Task
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.state import State
from pyswarm_core.states import KERNEL_WITH, TaskState, lives


def running_task(state: State, service: Service) -> Task | None:
    """The task whose networks change while it runs; None if the next one has those of the spec."""
    tasks = state.tasks_of_service(service.id) if service.spec.mode.is_container else ()
    for task in tasks:
        is_there = TaskState.ASSIGNED <= task.state <= TaskState.RUNNING
        if is_there and lives(task.desired_state) and service.is_current(task.spec_version):
            return task
    return None


def require_joinable(state: State, service: Service, spec: ServiceSpec) -> None:
    """Raises Conflict if the node of the container's task, or of its files, cannot give it what the
    spec's networks require.
    """
    if not spec.mode.is_container:
        return
    task = running_task(state, service)
    node = state.nodes.get(task.node_id if task else service.pinned_node)
    if node is None:
        return
    chosen = spec.task_template.task_ips
    before = service.spec.task_template
    joined = before.overlays if task else ()
    for network_id in spec.task_template.overlays:
        network = state.networks.get(network_id)
        if network is None:
            continue
        address = chosen.get(network_id, "")
        if address and address != before.task_ips.get(network_id):
            _require_address(state, network, node, address, task)
        if task and network_id not in joined and network_id not in state.networks_left(task):
            _require_room(state, network, node, address)


def _require_room(state: State, network: Network, node: Node, address: str) -> None:
    for why in _lacks(state, network, node):
        raise Conflict(
            f"node {node.description.hostname} cannot carry network {_name(network)}: {why}"
        )
    blocks = Blocks(network, state)
    if blocks.fits(node.id, node.number, address=address):
        return
    if blocks.held(node.id) >= BRIDGE_PORTS:
        why = f"it runs {BRIDGE_PORTS} tasks of the network, the most that a host carries"
    else:
        why = "all blocks of the network are in use, and the node's own have no free address"
    raise Conflict(
        f"node {node.description.hostname} has no address on network {_name(network)}: {why}"
    )


def _lacks(state: State, network: Network, node: Node) -> Iterator[str]:
    table = state.node_table
    row = table.rows[node.id]
    for capability in network.needs:
        if table.lacking(capability)[row]:
            yield f"its kernel lacks {KERNEL_WITH[capability]}"
    if row in table.blocked(network.id):
        reasons = (f.reason for f in node.status.faults if f.network_id in (network.id, ""))
        yield next(reasons, "it reported a fault")


def _require_address(
    state: State, network: Network, node: Node, address: str, task: Task | None
) -> None:
    """The address is in a block that the node has or may get, and no other task has it."""
    span, index = range_of(network), range_of(network).index_of(int(IPv4Address(address)))
    for block in network.blocks:
        if span.index(block.cidr) != index or block.node_number == node.number:
            continue
        if block.node_number in state.idle_blocks.networks.get(network.id, ()):
            continue
        owner = state.nodes.get(state.node_of_number.get(block.node_number, node.id), node)
        raise Conflict(
            f"address {address} of network {_name(network)} is in block {block.cidr} of node"
            f" {owner.description.hostname}, and the container is on {node.description.hostname}"
        )
    for other in state.tasks_of_node(node.id).values():
        if other != task and _holds(other, network.id, address):
            holder = state.services.get(other.service_id)
            name = holder.name_of(other) if holder else other.id
            text = f"address {address} of network {_name(network)} is already that of"
            hidden = f"{text} a task outside your stacks"
            raise Taken(f"{text} {quoted(name)}", other.id, hidden)


def _holds(task: Task, network_id: NetworkId, address: str) -> bool:
    if task.state > TaskState.RUNNING:
        return False
    held = task.detail.addresses
    return any((one.network_id, one.address) == (network_id, address) for one in held)


def _name(network: Network) -> str:
    return quoted(network.spec.name)
