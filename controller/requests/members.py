"""Who is on a network: services, their tasks, and the hosts that carry it. PURE."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from controller.requests.lookup import task_name
from pyswarm_core.ids import NetworkId, NodeId, ServiceId, TaskId
from pyswarm_core.objects import Node, Service, Task
from pyswarm_core.specs import PortConfig, PublishMode
from pyswarm_core.state import State
from pyswarm_core.states import TaskState, occupies


class NetworkTask(msgspec.Struct, frozen=True):
    """A task that has, or is about to have, an address of the network."""

    name: str
    task_id: TaskId
    node_name: str
    address: str
    state: TaskState


class NetworkService(msgspec.Struct, frozen=True):
    """A service as the network knows it."""

    name: str
    vip: str
    ports: tuple[PortConfig, ...]
    tasks: tuple[NetworkTask, ...]


class NetworkPeer(msgspec.Struct, frozen=True):
    """A host that carries the network."""

    node_name: str
    addr: str
    blocks: tuple[str, ...]
    acknowledged: int


def services_on(state: State, network_id: NetworkId) -> list[ServiceId]:
    """Those that join the network, and those that still have tasks made when they did; by name."""
    found = [service for service in state.services.values() if _may_be_on(service, network_id)]
    return [service.id for service in sorted(found, key=lambda service: service.spec.name)]


def network_service(
    state: State, network_id: NetworkId, service_id: ServiceId
) -> NetworkService | None:
    """The service with its living tasks on the network; None if it is neither on it nor has any."""
    service = state.services.get(service_id)
    if service is None:
        return None
    tasks = tuple(_tasks(state, network_id, service))
    if not tasks and network_id not in service.spec.task_template.overlays:
        return None
    vips = service.endpoint.virtual_ips
    ports = service.endpoint.ports if network_id == state.ingress_network else ()
    leaving = " (being removed)" if service.removing else ""
    return NetworkService(
        name=f"{service.spec.name}{leaving}",
        vip=next((vip.addr for vip in vips if vip.network_id == network_id), ""),
        ports=tuple(port for port in ports if port.publish_mode is PublishMode.INGRESS),
        tasks=tasks,
    )


def network_peers(
    state: State, network_id: NetworkId, acknowledged: Mapping[NodeId, int]
) -> list[NetworkPeer]:
    """The hosts with blocks of the network (all hosts, if it is the mesh's), by number."""
    network = state.networks.get(network_id)
    if network is None:
        return []
    blocks: dict[int, list[str]] = {}
    for block in network.blocks:
        blocks.setdefault(block.node_number, []).append(block.cidr)
    is_mesh = network_id == state.ingress_network
    nodes = [node for node in state.nodes.values() if is_mesh or node.number in blocks]
    nodes.sort(key=lambda node: node.number)
    return [_peer(node, blocks.get(node.number, ()), acknowledged) for node in nodes]


def _peer(node: Node, blocks: Sequence[str], acknowledged: Mapping[NodeId, int]) -> NetworkPeer:
    return NetworkPeer(
        node_name=node.description.hostname,
        addr=node.status.addr,
        blocks=tuple(blocks),
        acknowledged=acknowledged.get(node.id, 0),
    )


def _may_be_on(service: Service, network_id: NetworkId) -> bool:
    specs = (service.spec, *(previous.spec for previous in service.previous_specs))
    return any(network_id in spec.task_template.overlays for spec in specs)


def _tasks(state: State, network_id: NetworkId, service: Service) -> Iterator[NetworkTask]:
    slots = state.tasks_of_service(service.id).slots
    for number in sorted(slots):
        for task in slots[number]:
            if occupies(task.state) and network_id in state.footprint(task).networks:
                yield _task(state, network_id, task)


def _task(state: State, network_id: NetworkId, task: Task) -> NetworkTask:
    node = state.nodes.get(task.node_id)
    addresses = (one.address for one in task.detail.addresses if one.network_id == network_id)
    return NetworkTask(
        name=task_name(state, task),
        task_id=task.id,
        node_name=node.description.hostname if node else "",
        address=next(addresses, "").partition("/")[0],
        state=task.state,
    )
