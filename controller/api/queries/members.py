"""The members of a network: services, their tasks, and hosts. PURE."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from controller.api.changes.unreadable import unreadable_services
from controller.api.queries.lookup import Sees, task_name
from controller.brain.slices import Slices, batches
from pyswarm_core.docker.containers import views as containers
from pyswarm_core.docker.containers.views import DEFAULT_NETWORK
from pyswarm_core.ids import NetworkId, NodeId, ServiceId
from pyswarm_core.objects import Node, Service, Task
from pyswarm_core.specs import PublishMode, TaskSpec
from pyswarm_core.state import State
from pyswarm_core.states import occupies
from pyswarm_core.views import NetworkPeer, NetworkService, NetworkTask

SERVICES_AT_ONCE = 500
"""Services whose specs, also previous ones, one slice examines."""
TASKS_AT_ONCE = 500
"""Tasks of a service on a network in one part of the answer."""


def joined(template: TaskSpec) -> tuple[NetworkId, ...]:
    """The networks of a task of the template: ids, or the word of a predefined one."""
    targets = (attachment.target for attachment in template.networks)
    return tuple(map(NetworkId, targets)) or (NetworkId(DEFAULT_NETWORK),)


def networks_of(state: State, service: Service) -> set[NetworkId]:
    """The networks that the service joins, those of specs of its tasks that have not ended, and
    those that a container was disconnected from and its agent has yet to leave.
    """
    tasks = state.tasks_of_service(service.id)
    specs = (service.spec, *filter(None, map(service.made_from, tasks.unfinished)))
    found = {network_id for spec in specs for network_id in joined(spec.task_template)}
    if service.spec.mode.is_container:
        found.update(*map(state.networks_left, tasks))
    return found


def networks_in_use(state: State) -> Slices[set[NetworkId]]:
    """The networks that services, containers or tasks use; all, if a service cannot be read."""
    found: set[NetworkId] = set()
    for services in batches(list(state.services.values()), SERVICES_AT_ONCE):
        yield
        found.update(*(networks_of(state, service) for service in services))
    return set(state.networks) if any(unreadable_services(state)) else found


def services_on(state: State, network_id: NetworkId) -> Slices[list[ServiceId]]:
    """Services that join the network, and those with tasks of an earlier spec that did; by name."""
    found: list[Service] = []
    for services in batches(list(state.services.values()), SERVICES_AT_ONCE):
        yield
        found += [service for service in services if _may_be_on(service, network_id)]
    return [service.id for service in sorted(found, key=lambda service: service.spec.name)]


def network_service(
    state: State, network_id: NetworkId, service_id: ServiceId
) -> Iterator[NetworkService | None]:
    """The service with its tasks on the network that have not ended, TASKS_AT_ONCE at a time under
    the same name; nothing if it neither joins it nor has any. None after a slice that found none.
    """
    service = state.services.get(service_id)
    if service is None:
        return
    vips = service.endpoint.virtual_ips
    ports = service.endpoint.ports if network_id == state.ingress_network else ()
    leaving = " (being removed)" if service.removing else ""
    found = NetworkService(
        name=f"{service.spec.name}{leaving}",
        vip=next((vip.addr for vip in vips if vip.network_id == network_id), ""),
        ports=tuple(port for port in ports if port.publish_mode is PublishMode.INGRESS),
        tasks=(),
    )
    is_alone = True
    slots = state.tasks_of_service(service.id).slots
    for numbers in batches(sorted(slots), TASKS_AT_ONCE):
        held = (task for number in numbers for task in slots.get(number, ()))
        tasks = tuple(_on_network(state, network_id, held))
        is_alone = is_alone and not tasks
        yield msgspec.structs.replace(found, tasks=tasks) if tasks else None
    if is_alone and network_id in joined(service.spec.task_template):
        yield found


def network_peers(
    state: State, network_id: NetworkId, acknowledged: Mapping[NodeId, int], sees: Sees
) -> Iterator[NetworkPeer]:
    """The hosts with blocks of the network (of the ingress network: all hosts), by number; those
    that the caller may see.
    """
    network = state.networks.get(network_id)
    if network is None:
        return
    blocks: dict[int, list[str]] = {}
    for block in network.blocks:
        blocks.setdefault(block.node_number, []).append(block.cidr)
    is_mesh = network_id == state.ingress_network
    nodes = [
        node
        for node in state.nodes.values()
        if (is_mesh or node.number in blocks) and sees(state, node.id)
    ]
    nodes.sort(key=lambda node: node.number)
    for node in nodes:
        yield _peer(node, blocks.get(node.number, ()), acknowledged)


def _peer(node: Node, blocks: Sequence[str], acknowledged: Mapping[NodeId, int]) -> NetworkPeer:
    return NetworkPeer(
        node_name=node.description.hostname,
        addr=node.status.addr,
        blocks=tuple(blocks),
        acknowledged=acknowledged.get(node.id, 0),
    )


def _may_be_on(service: Service, network_id: NetworkId) -> bool:
    specs = (service.spec, *(previous.spec for previous in service.previous_specs))
    return any(network_id in joined(spec.task_template) for spec in specs)


def _on_network(
    state: State, network_id: NetworkId, tasks: Iterable[Task]
) -> Iterator[NetworkTask]:
    for task in tasks:
        if occupies(task.state) and network_id in _networks_of_task(state, task):
            yield _task(state, network_id, task)


def _networks_of_task(state: State, task: Task) -> Collection[NetworkId]:
    networks = state.footprint(task).networks
    service = state.services.get(task.service_id)
    if networks or service is None:
        return networks
    template = service.template(task.spec_version)
    return joined(template) if template else ()


def _task(state: State, network_id: NetworkId, task: Task) -> NetworkTask:
    node = state.nodes.get(task.node_id)
    service = state.services.get(task.service_id)
    addresses = (one.address for one in task.detail.addresses if one.network_id == network_id)
    return NetworkTask(
        name=task_name(state, task),
        task_id=task.id,
        node_name=node.description.hostname if node else "",
        address=next(addresses, "").partition("/")[0],
        container_id=containers.id_of(service, task) if service else task.id,
        state=task.state,
    )
