"""Whom a trace is about: who begins it, what it leads to, which task is at the other end. PURE.

`aim` reads what the user wrote; `end` finds the task once the resolver and the rules have said
where the way leads. Both look at the state as it is then.
"""

from collections.abc import Iterable, Iterator
from ipaddress import AddressValueError, IPv4Address, IPv4Network

import msgspec

from controller.api.queries.lookup import find_service_or_task, task_name
from controller.api.queries.members import services_on
from controller.brain.slices import Slices
from controller.leader.endpoints.sets import is_backend
from pyswarm_core.errors import Conflict, InvalidArgument, NotFound
from pyswarm_core.ids import NetworkId
from pyswarm_core.limits import SLICE_TASKS
from pyswarm_core.objects import Node, Service, Task
from pyswarm_core.specs import EndpointMode, Protocol
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from pyswarm_core.validation.problem import shown


class Aim(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for."""

    source: Task
    node: Node
    """Where the source runs."""
    text: str
    """What was to be reached, in the user's words."""
    name: str = ""
    """To ask the resolver for; empty: an address was given."""
    address: str = ""
    service: Service | None = None
    task: Task | None = None
    """One certain task is meant."""


class End(msgspec.Struct, frozen=True):
    """The task at the other end, and its address on the network of the way."""

    task: Task
    name: str
    node: Node | None
    network_id: NetworkId
    address: str


def aim(state: State, source: str, target: str) -> Slices[Aim]:
    """Whom the words mean, in slices.

    Raises NotFound, InvalidArgument, Conflict if the source is not on a network of the fleet.
    """
    if not target:
        raise InvalidArgument("there is nothing to trace to: want a task, service, name or address")
    task = yield from _running(state, source)
    node = state.nodes.get(task.node_id)
    if node is None or not overlays(state, task):
        raise Conflict(
            f"{task_name(state, task)} is on no overlay network: there is no way to trace"
        )
    begun = Aim(source=task, node=node, text=target)
    if _is_address(target):
        return msgspec.structs.replace(begun, address=target)
    is_alias = target in (yield from _aliases(state, task))
    named = None if is_alias else (yield from _named(state, target))
    if isinstance(named, Task):
        service = state.services.get(named.service_id)
        name = f"{service.spec.name}.{named.slot}.{named.id}" if service else ""
        return msgspec.structs.replace(begun, name=name, service=service, task=named)
    name = named.spec.name if named else target
    return msgspec.structs.replace(begun, name=name, service=named)


def to(aimed: Aim, address: str) -> Aim:
    """The same way by the address alone."""
    return msgspec.structs.replace(aimed, name="", address=address)


def overlays(state: State, task: Task) -> dict[NetworkId, str]:
    """The task's address on each network of the fleet but the mesh's."""
    return {
        held.network_id: held.address.partition("/")[0]
        for held in task.detail.addresses
        if held.network_id in state.networks and held.network_id != state.ingress_network
    }


def networks_of(state: State, service: Service | None) -> tuple[NetworkId, ...]:
    """The networks, but the mesh's, that a service joins."""
    joined = service.spec.task_template.overlays if service else ()
    return tuple([n for n in joined if n in state.networks and n != state.ingress_network])


def virtual_address(state: State, aimed: Aim) -> tuple[str, NetworkId, Service] | None:
    """The virtual address that the way goes by, its network and whose it is."""
    own = overlays(state, aimed.source)
    if aimed.address:
        for network_id in own:
            service_id = state.virtual_ips.get(network_id, {}).get(int(IPv4Address(aimed.address)))
            if service_id is not None:
                return aimed.address, network_id, state.services[service_id]
    service = aimed.service
    if aimed.task is not None or service is None:
        return None
    if service.spec.endpoint_spec.mode is not EndpointMode.VIP:
        return None
    vips = {vip.network_id: vip.addr for vip in service.endpoint.virtual_ips}
    return next(((vips[n], n, service) for n in own if n in vips), None)


def backends(state: State, service: Service, network_id: NetworkId) -> list[End]:
    """The tasks that may receive connections, by slot."""
    return [
        _end(state, task, network_id, address)
        for task, address in _addresses(state, service, network_id)
        if is_backend(task)
    ]


def end(state: State, aimed: Aim, led_to: Iterable[str]) -> Slices[End | None]:
    """The task at the other end: of the addresses that the way leads to, the first that is not the
    source's own; None if none is a task's. In slices.
    """
    if aimed.task is not None:
        own = overlays(state, aimed.source)
        there = overlays(state, aimed.task)
        shared = next((n for n in own if n in there), next(iter(there), None))
        return _end(state, aimed.task, shared, there[shared]) if shared else None
    own_end = None
    for address in led_to:
        holder = yield from _holder(state, address)
        if holder is not None and holder.task.id != aimed.source.id:
            return holder
        own_end = own_end or holder
    return own_end


def network_of(state: State, address: str) -> NetworkId | None:
    """The fleet's network that the address is of."""
    wanted = IPv4Address(address)
    for network in state.networks.values():
        if wanted in IPv4Network(network.subnet):
            return network.id
    return None


def first_port(service: Service | None) -> int:
    """The first TCP port that the service publishes, as its tasks know it; 0: none."""
    ports = service.endpoint.ports if service else ()
    return next((p.target_port for p in ports if p.protocol is Protocol.TCP), 0)


def _running(state: State, ref: str) -> Slices[Task]:
    named = yield from find_service_or_task(state, ref)
    if isinstance(named, Task):
        if named.state is not TaskState.RUNNING:
            name = task_name(state, named)
            raise Conflict(f"{name} is {named.state.word}: only a running task can be traced from")
        return named
    slots = state.tasks_of_service(named.id).slots
    for slot in sorted(slots):
        for task in slots[slot]:
            if task.state is TaskState.RUNNING:
                return task
    name = named.spec.name
    raise Conflict(f"service {name} has no running task: `pyswarm why {name}` tells the cause")


def _named(state: State, target: str) -> Slices[Service | Task | None]:
    try:
        return (yield from find_service_or_task(state, target))
    except NotFound as error:
        if "ambiguous" in str(error):
            raise
    return None


def _aliases(state: State, task: Task) -> Slices[set[str]]:
    """The aliases on the task's networks: they win over the beginnings of ids."""
    found: set[str] = set()
    for network_id in overlays(state, task):
        for service_id in (yield from services_on(state, network_id)):
            service = state.services.get(service_id)
            for joined in service.spec.task_template.networks if service else ():
                if joined.target == network_id:
                    found.update(joined.aliases)
    return found


def _holder(state: State, address: str) -> Slices[End | None]:
    network_id = network_of(state, address)
    if network_id is None:
        return None
    for service_id in (yield from services_on(state, network_id)):
        if (service := state.services.get(service_id)) is None:
            continue
        for number, (task, held) in enumerate(_addresses(state, service, network_id), 1):
            if number % SLICE_TASKS == 0:
                yield
            if held == address and task.state is TaskState.RUNNING:
                return _end(state, task, network_id, address)
    return None


def _addresses(state: State, service: Service, network_id: NetworkId) -> Iterator[tuple[Task, str]]:
    slots = state.tasks_of_service(service.id).slots
    for slot in sorted(slots):
        for task in slots.get(slot, ()):
            for held in task.detail.addresses:
                if held.network_id == network_id:
                    yield task, held.address.partition("/")[0]


def _end(state: State, task: Task, network_id: NetworkId, address: str) -> End:
    return End(task, task_name(state, task), state.nodes.get(task.node_id), network_id, address)


def _is_address(text: str) -> bool:
    if ":" in text:
        raise InvalidArgument(
            f"{shown(text)}: ways of IPv6 cannot be traced yet: give the IPv4 one"
        )
    try:
        IPv4Address(text)
    except AddressValueError:
        return False
    return True
