"""Allocates a service's endpoint: a virtual address on each network, and published ports. PURE.

Virtual addresses come from the end of a network's range and only from blocks that no node has.
Nodes get their blocks from the beginning; the two meet when a network is full. An address that a
user chose may also lie outside the range. A service keeps its addresses and ports when other parts
of its spec change. An error names the holder of what was requested.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network
from itertools import chain

from msgspec.structs import replace

from controller.brain.allocator.held import held_of
from controller.brain.allocator.subnets import range_of
from pyswarm_core.errors import Conflict, Taken, invalid, quoted
from pyswarm_core.identity.users import STACK_LABEL
from pyswarm_core.ids import NetworkId, ServiceId
from pyswarm_core.limits import API_PORT
from pyswarm_core.objects import Endpoint, Network, VirtualIp
from pyswarm_core.ports import overlaps, published_word
from pyswarm_core.registry.limits import REGISTRY_PORT
from pyswarm_core.specs import EndpointMode, PortConfig, Protocol, PublishMode, ServiceSpec
from pyswarm_core.state import State

DYNAMIC_PORTS = range(30_000, 32_768)
"""The range of automatically chosen ports in mode ingress (the same as Swarm's)."""


def allocate_endpoint(
    state: State, service_id: ServiceId, spec: ServiceSpec, old: Endpoint
) -> Endpoint:
    """The endpoint that the spec requests, keeping what the service has of it.

    Raises Conflict: a port is published by another service, no port or address is left, an address
    of a task is another's.
    """
    for network_id, address in spec.task_template.task_ips.items():
        if network_id in state.networks:
            _require_task_address(state, service_id, state.networks[network_id], address)
    return Endpoint(
        ports=_ports(state, service_id, spec, old),
        virtual_ips=tuple(
            _chosen_ip(state, service_id, network_id, ip)
            if ip
            else _virtual_ip(state, network_id, old)
            for network_id, ip in _virtual_networks(state, spec)
        ),
    )


def _virtual_networks(state: State, spec: ServiceSpec) -> Iterator[tuple[NetworkId, str]]:
    """The networks on which the service has a virtual address, each with the address that the user
    chose, or "". The ingress network has none: the mesh forwards by port.
    """
    chosen = {joined.target: joined.ip for joined in spec.task_template.networks}
    if spec.endpoint_spec.mode is EndpointMode.VIP:
        for network_id in spec.task_template.overlays:
            if network_id in state.networks and network_id != state.ingress_network:
                yield network_id, chosen[network_id]


def _chosen_ip(state: State, service_id: ServiceId, network_id: NetworkId, ip: str) -> VirtualIp:
    """The address that the user requested for the service, if it is free."""
    network, address = state.networks[network_id], IPv4Address(ip)
    name, span = network.spec.name, range_of(network)
    if address not in IPv4Network(network.subnet) or int(address) in span.reserved:
        expected = (
            f"expected an address of network {quoted(name)} ({network.subnet}),"
            " not its first, its last or its gateway"
        )
        raise invalid("--network", ip, expected, "ip")
    holder = state.virtual_ips.get(network_id, {}).get(int(address), service_id)
    if holder != service_id:
        holder_name = state.services[holder].spec.name
        text = f"address {ip} of network {quoted(name)} is already that of"
        raise _taken(f"{text} service {quoted(holder_name)}", holder, f"{text} a service")
    index = span.index_of(int(address))
    if index in held_of(network, state).times:
        block = next(block for block in network.blocks if span.index(block.cidr) == index)
        raise Conflict(
            f"address {ip} of network {quoted(name)} is in block {block.cidr}, which belongs to the"
            f" tasks of node number {block.node_number}: choose one at the subnet's end, or create"
            " the network with an --ip-range that leaves some out"
        )
    if not _leaves_a_block(state, network, int(address)):
        raise Conflict(
            f"address {ip} of network {quoted(name)} is in the last block left for tasks"
        )
    return VirtualIp(network_id=network_id, addr=ip)


def _require_task_address(
    state: State, service_id: ServiceId, network: Network, address: str
) -> None:
    """Raise InvalidArgument or Conflict if no task can have the address. Only the agent that
    assigned it knows whether a task has it now.
    """
    name, span, number = network.spec.name, range_of(network), int(IPv4Address(address))
    index = span.index_of(number)
    tasks = span.addresses(index)[2:-1]
    if not 0 <= index < span.count or number not in tasks or number in span.reserved:
        expected = f"expected an address for tasks of network {quoted(name)} ({span.cidr})"
        if 0 <= index < span.count:
            first, last = IPv4Address(tasks[0]), IPv4Address(tasks[-1])
            expected += f": of block {span.block(index)} these are {first} to {last}"
        raise invalid("--ip", address, expected)
    virtual = state.virtual_ips.get(network.id, {})
    for taken, holder in virtual.items():
        if span.index_of(taken) == index:
            what = "is" if taken == number else f"is in block {span.block(index)}, which has"
            text = (
                f"address {address} of network {quoted(name)} {what} the virtual address"
                f" {IPv4Address(taken)} of"
            )
            service = f"service {quoted(state.services[holder].spec.name)}"
            raise _taken(f"{text} {service}", holder, f"{text} a service")
    for other in state.services.values():
        if other.id != service_id and other.spec.task_template.task_ips.get(network.id) == address:
            kind = "container" if other.spec.mode.is_container else "service"
            text = f"address {address} of network {quoted(name)} is already that of"
            own = f"{text} {kind} {quoted(other.spec.name)}"
            raise _taken(own, other.id, f"{text} a {kind}")


def _leaves_a_block(state: State, network: Network, address: int) -> bool:
    """Whether any block is left for nodes once the address is allocated."""
    span, shift = range_of(network), 32 - range_of(network).prefix
    closed = {(one - span.base) >> shift for one in state.virtual_ips.get(network.id, {})}
    closed.add((address - span.base) >> shift)
    if span.gateway_block is not None:
        closed.add(span.gateway_block)
    return sum(0 <= index < span.count for index in closed) < span.count


def _virtual_ip(state: State, network_id: NetworkId, old: Endpoint) -> VirtualIp:
    for vip in old.virtual_ips:
        if vip.network_id == network_id:
            return vip
    network = state.networks[network_id]
    used = state.virtual_ips.get(network_id, {})
    for number in _free_addresses(network, held_of(network, state).times):
        if number not in used:
            return VirtualIp(network_id=network_id, addr=str(IPv4Address(number)))
    raise Conflict(
        f"network {quoted(network.spec.name)} has no address left for another service: nodes have"
        f" {len(network.blocks)} of the {range_of(network).count} blocks of"
        f" {range_of(network).cidr} and {len(used)} services the rest; use --endpoint-mode dnsrr,"
        " or a network with a larger --subnet"
    )


def _free_addresses(network: Network, held: Container[int]) -> Iterator[int]:
    """Addresses outside nodes' blocks, highest first. The lowest block is left to the nodes."""
    span = range_of(network)
    for index in range(span.count - 1, 0, -1):
        if index not in held:
            for number in reversed(span.addresses(index)):
                if number not in span.reserved:
                    yield number


def _ports(
    state: State, service_id: ServiceId, spec: ServiceSpec, old: Endpoint
) -> tuple[PortConfig, ...]:
    requested = spec.endpoint_spec.ports
    for port in requested:
        if port.published_port:
            _require_not_ours(state, port)
            _require_free(state, service_id, port)
    taken = {
        (port.protocol, port.published_port): None for port in requested if port.published_port
    }
    untried = {protocol: iter(DYNAMIC_PORTS) for protocol in Protocol}
    given = []
    for port in requested:
        if port.publish_mode is PublishMode.INGRESS and not port.published_port:
            candidates = chain(_chosen_before(old, port), untried[port.protocol])
            number = _free_port(state, service_id, port, candidates, taken)
            taken[port.protocol, number] = None
            port = replace(port, published_port=number)
        given.append(port)
    return tuple(given)


def _require_not_ours(state: State, port: PortConfig) -> None:
    """Raise Conflict for a port of the control plane or of VXLAN: a host that forwarded it to a
    task would lose its controller or its networks.
    """
    ours = {
        (Protocol.TCP, API_PORT): "controllers answer there",
        (Protocol.TCP, REGISTRY_PORT): "the fleet's registry answers there",
        (Protocol.UDP, state.cluster.spec.data_path_port): "overlay networks use it between hosts",
    }
    why = ours.get((port.protocol, port.published_port))
    if why:
        raise Conflict(f"port {published_word(port)} is the fleet's own: {why}")


def _require_free(state: State, service_id: ServiceId, port: PortConfig) -> None:
    for holder, held in _conflicts(state, service_id, port):
        spec = state.services[holder].spec
        stack = spec.labels.get(STACK_LABEL, "")
        whose = f" of stack {quoted(stack)}" if stack else ""
        mode = f" in mode {held.publish_mode}" if held.publish_mode != port.publish_mode else ""
        mode += f" as {published_word(held)}" if held.host_ip != port.host_ip else ""
        text = f"port {published_word(port)} is published by"
        own = f"{text} service {quoted(spec.name)}{whose}{mode}"
        raise _taken(own, holder, f"{text} a service", mode)


def _taken(text: str, holder: ServiceId, hidden: str, rest: str = "") -> Taken:
    return Taken(text, holder, f"{hidden} outside your stacks{rest}")


def _conflicts(
    state: State, service_id: ServiceId, port: PortConfig
) -> Iterator[tuple[ServiceId, PortConfig]]:
    """Ports of other services that conflict with this one.

    Two ports in mode host do not: the scheduler places their tasks on different nodes.
    """
    holders = state.published.get((port.protocol, port.published_port), {})
    for holder, ports in holders.items():
        for held in ports if holder != service_id else ():
            both_host = held.publish_mode is port.publish_mode is PublishMode.HOST
            if not both_host and overlaps(held.host_ip, port.host_ip):
                yield holder, held


def _chosen_before(old: Endpoint, port: PortConfig) -> Iterator[int]:
    """The numbers that were chosen for the same target port before."""
    for before in old.ports:
        same = replace(before, published_port=0) == port
        if same and before.published_port in DYNAMIC_PORTS:
            yield before.published_port


def _free_port(
    state: State,
    service_id: ServiceId,
    port: PortConfig,
    candidates: Iterable[int],
    taken: Mapping[tuple[Protocol, int], None],
) -> int:
    for number in candidates:
        key = (port.protocol, number)
        others = state.published.get(key, {})
        if key not in taken and not any(holder != service_id for holder in others):
            return number
    first, last = DYNAMIC_PORTS[0], DYNAMIC_PORTS[-1]
    raise Conflict(
        f"no port is left for target {port.target_port}/{port.protocol}: all {len(DYNAMIC_PORTS)}"
        f" of {first} to {last} are published; give a published port"
    )
