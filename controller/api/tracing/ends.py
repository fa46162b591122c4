"""The two ends of a trace: the tasks that the user's words name, or that have an address. PURE."""

from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_network

import msgspec
from msgspec.structs import replace

from controller.api.queries.lookup import find_service_or_task, task_name
from controller.brain.slices import Slices
from controller.leader.endpoints.sets import is_backend
from pyswarm_core.addresses import address4, address6
from pyswarm_core.errors import Conflict, InvalidArgument, NotFound
from pyswarm_core.ids import NetworkId, NodeId, ServiceId, TaskId
from pyswarm_core.objects import Network, Service, Task
from pyswarm_core.specs import EndpointMode, Protocol
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from pyswarm_core.traces import Facts

_ID_SHOWN = 12
"""Characters of an id that tables show."""


class End(msgspec.Struct, frozen=True, kw_only=True):
    """A task at one end, and the findings of its host's agent."""

    name: str
    host: str
    underlay: str = ""
    task_id: TaskId = TaskId("")
    service_id: ServiceId = ServiceId("")
    node_id: NodeId = NodeId("")
    state: TaskState = TaskState.RUNNING
    addresses: dict[NetworkId, str] = {}
    """Its addresses on the overlay networks other than the ingress network."""
    network_id: NetworkId = NetworkId("")
    network: str = ""
    """The name of the route's network."""
    address: str = ""
    """Its address there, in the IP version of the trace."""
    facts: Facts = Facts()
    error: str = ""
    """Why the agent could not be asked."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The trace target."""

    text: str
    """As the user wrote it."""
    name: str = ""
    """The name to query from the resolver; empty: an address was given."""
    address: str = ""
    service: Service | None = None
    end: End | None = None
    """The task, if a certain one is named."""


class Vip(msgspec.Struct, frozen=True):
    """A service's virtual address on a network of the source, and its backends there."""

    address: str
    backends: tuple[str, ...]


def source(state: State, ref: str) -> Slices[End]:
    """The task, or the first running one of the service. In slices.

    Raises NotFound; Conflict if it does not run, or is on no overlay network.
    """
    named = yield from find_service_or_task(state, ref)
    if isinstance(named, Task):
        end = _end(state, named)
    else:
        name = named.spec.name
        running = (task for task in _tasks(state, named) if task.state is TaskState.RUNNING)
        if (first := next(running, None)) is None:
            raise Conflict(f"service {name} has no running task: see `pyswarm why {name}`")
        end = _end(state, first)
    if end.state is not TaskState.RUNNING:
        raise Conflict(f"{end.name} is {end.state.word}: only a running task can be traced from")
    if not end.addresses:
        raise Conflict(f"{end.name} is on no overlay network: there is no route to trace")
    return end


def target(state: State, text: str) -> Slices[Target]:
    """An address, a service, a task (by name or id), or else any name. In slices.

    Raises InvalidArgument if there is none.
    """
    if not text:
        raise InvalidArgument("no trace target: expected a task, service, name or address")
    if _is_address(text):
        return Target(text=text, address=text)
    named: Service | Task | None = None
    # No ids shorter than tables show: an alias may be the beginning of some id.
    if text in state.service_of_name or "." in text or len(text) >= _ID_SHOWN:
        try:
            named = yield from find_service_or_task(state, text)
        except NotFound:
            named = None
    if isinstance(named, Service):
        return Target(text=named.spec.name, name=named.spec.name, service=named)
    service = state.services.get(named.service_id) if named else None
    if named is None or service is None:
        return Target(text=text, name=text)
    name = f"{service.spec.name}.{named.slot}.{named.id}"
    return Target(text=service.name_of(named), name=name, service=service, end=_end(state, named))


def unjoined(state: State, near: End, reached: Target) -> list[NetworkId]:
    """The networks of the target if the source has joined none of them."""
    joined = reached.service.spec.task_template.overlays if reached.service else ()
    theirs = [n for n in joined if n in state.networks and n != state.ingress_network]
    return [] if any(n in near.addresses for n in theirs) else theirs


def vip_of(state: State, near: End, reached: Target, address: str) -> Vip | None:
    """The virtual address on the route: the address if it is one on a network of the source,
    otherwise that of the target service.
    """
    service = reached.service if reached.end is None else None
    with_vip = service is not None and service.spec.endpoint_spec.mode is EndpointMode.VIP
    vips = service.endpoint.virtual_ips if service and with_vip else ()
    known = {vip.network_id: vip.addr for vip in vips}
    for network_id in near.addresses:
        asked = _ipv4(state.networks[network_id], address)
        owner = state.virtual_ips.get(network_id, {}).get(int(ip_address(asked))) if asked else None
        if owner is not None:
            return _vip(state, state.services[owner], network_id, address)
        if service and network_id in known:
            return _vip(state, service, network_id, known[network_id])
    return None


def far_end(state: State, near: End, reached: Target, addresses: Sequence[str]) -> End | None:
    """The task that is named, or a running one with the first of the addresses that is not the
    source's own; None if no task has one.
    """
    if (meant := reached.end) is not None:
        joined = sorted(meant.addresses, key=lambda network_id: network_id not in near.addresses)
        return on(state, meant, joined[0]) if joined else None
    own = near.addresses.values()
    for address in sorted(addresses, key=lambda address: address in own):
        network = network_of(state, address)
        if network and (task := _holder(state, network, address)):
            return on(state, _end(state, task), network.id, six=":" in address)
    return None


def on(state: State, end: End, network_id: NetworkId, *, six: bool = False) -> End:
    """The end on one of its networks."""
    network, address = state.networks[network_id], end.addresses[network_id]
    if six:
        address = address6(network.subnet, network.subnet6, address)
    return replace(end, network_id=network_id, network=network.spec.name, address=address)


def network_of(state: State, address: str) -> Network | None:
    """The overlay network that the address belongs to."""
    for network in state.networks.values():
        subnets = filter(None, (network.subnet, network.subnet6))
        if any(ip_address(address) in ip_network(subnet) for subnet in subnets):
            return network
    return None


def first_port(state: State, end: End, *, udp: bool) -> int:
    """The first port that the task's service publishes; 0: none."""
    protocol = Protocol.UDP if udp else Protocol.TCP
    service = state.services.get(end.service_id)
    ports = service.endpoint.ports if service else ()
    return next((port.target_port for port in ports if port.protocol is protocol), 0)


def _vip(state: State, service: Service, network_id: NetworkId, address: str) -> Vip:
    six, network = ":" in address, state.networks[network_id]
    serving = [_addresses(state, task) for task in _tasks(state, service) if is_backend(task)]
    held = [addresses[network_id] for addresses in serving if network_id in addresses]
    return Vip(
        address, tuple(address6(network.subnet, network.subnet6, a) if six else a for a in held)
    )


def _holder(state: State, network: Network, address: str) -> Task | None:
    address = _ipv4(network, address)
    held = (block for block in network.blocks if ip_address(address) in ip_network(block.cidr))
    node_id = state.node_of_number.get(next((block.node_number for block in held), 0))
    for task in state.tasks_of_node(node_id).values() if node_id else ():
        if task.state is TaskState.RUNNING and _addresses(state, task).get(network.id) == address:
            return task
    return None


def _ipv4(network: Network, address: str) -> str:
    """The address, or the IPv4 address that belongs to an IPv6 one; empty if none does."""
    if ":" not in address:
        return address
    try:
        return address4(network.subnet, network.subnet6, address) if network.subnet6 else ""
    except ValueError:
        return ""


def _tasks(state: State, service: Service) -> Iterator[Task]:
    slots = state.tasks_of_service(service.id).slots
    return (task for slot in sorted(slots) for task in slots[slot])


def _end(state: State, task: Task) -> End:
    node = state.nodes.get(task.node_id)
    return End(
        name=task_name(state, task),
        host=node.description.hostname if node else "?",
        underlay=node.status.addr if node else "",
        task_id=task.id,
        service_id=task.service_id,
        node_id=task.node_id,
        state=task.state,
        addresses=_addresses(state, task),
    )


def _addresses(state: State, task: Task) -> dict[NetworkId, str]:
    return {
        held.network_id: held.address.partition("/")[0]
        for held in task.detail.addresses
        if held.network_id in state.networks and held.network_id != state.ingress_network
    }


def _is_address(text: str) -> bool:
    try:
        return bool(ip_address(text))
    except ValueError:
        return False
