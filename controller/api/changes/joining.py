"""Joins of hosts, and validation of what agents report. PURE."""

import hmac
from collections.abc import Container, Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address
from itertools import islice

import msgspec

from controller.api.changes.certificates import certificate_of
from controller.brain.allocator.subnets import span_of
from controller.brain.nodes import Greeted, moved, promoted
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unavailable,
    invalid,
    quoted,
)
from pyswarm_core.identity.limits import CLOCK_SKEW_REFUSED
from pyswarm_core.ids import ID_LENGTH, IdSource, NodeId, short
from pyswarm_core.limits import (
    ADDRESSES6_MAX,
    ADDRESSES_PER_TASK,
    DETAIL_LENGTH_MAX,
    NODES_MAX,
    PORTS_PER_TASK,
    PROTOCOL,
    PROTOCOL_OLDEST,
)
from pyswarm_core.objects import (
    Cluster,
    Node,
    NodeDescription,
    NodeStatus,
    TaskAddress,
    TaskDetail,
    TaskStatus,
    clipped,
)
from pyswarm_core.specs import NodeSpec, PortConfig
from pyswarm_core.state import State
from pyswarm_core.states import Availability, NodeState, is_terminal
from pyswarm_core.validation import address_problems, description_problems, require
from pyswarm_core.validation.node import usable6

HOST_IP_MAX = 64
"""Characters of a published port's address or device."""


class JoinRequest(msgspec.Struct, frozen=True):
    """A host's request to join, with its token."""

    token: str
    description: NodeDescription
    addr: str
    availability: str = ""
    key_digest: str = ""
    """Of the key for which the host requests a certificate."""
    clock: int = 0
    """The host's; 0: not sent."""
    peer: str = ""
    """The address from which the host calls."""


def join(
    state: State, request: JoinRequest, now: Instant, ids: IdSource, controllers: Sequence[str] = ()
) -> tuple[Writes, Node]:
    """Add the host as a node with a number of its own. A host that joins again is a new node, and
    its former one, if it is drained, empty and silent (`swarm leave`), is down.

    Raises PermissionDenied for a wrong token, InvalidArgument, AlreadyExists (another node has its
    name or address), Unavailable when the fleet is full.
    """
    cluster = state.cluster
    role = role_of(cluster, request.token)
    require_protocol(request.description)
    require_clock(request.clock, now)
    require([*description_problems(request.description), *address_problems(request.addr)])
    hostname = request.description.hostname
    if (joined := _joined_already(state, request)) is not None:
        return Writes(), joined
    left = {node.id: node for node in _left(state, hostname, request.addr)}
    _require_unclaimed(state, left, hostname, request.addr)
    if len(state.nodes) >= NODES_MAX:
        raise Unavailable(f"there are {NODES_MAX} nodes, which is the limit")
    try:
        availability = Availability(request.availability or "active")
    except ValueError:
        words = ", ".join(word.value for word in Availability)
        raise invalid("--availability", request.availability, f"expected one of {words}") from None
    (node_id,) = ids.draw(1)
    node = Node(
        id=NodeId(node_id),
        number=cluster.next_node_number,
        description=request.description,
        spec=NodeSpec(role=role, availability=availability),
        created_at=now,
        updated_at=now,
        status=NodeStatus(since=now, addr=request.addr),
        certificate=certificate_of(cluster, request.key_digest, now),
    )
    node = promoted(node, controllers, request.peer)
    counted = msgspec.structs.replace(cluster, next_node_number=node.number + 1)
    former = (moved(one, NodeState.DOWN, now, "it left the fleet") for one in left.values())
    return Writes(cluster=counted, objects=(node, *former)), node


def _joined_already(state: State, request: JoinRequest) -> Node | None:
    """The node of this very request, whose answer was lost: its key is the host's."""
    for node_id in state.node_table.named(request.description.hostname):
        node = state.nodes[node_id]
        if request.key_digest and node.certificate.key_digest == request.key_digest:
            return node
    return None


def require_protocol(description: NodeDescription) -> None:
    """Raise InvalidArgument for an agent whose protocol is too old. The agent checks the
    controller's.
    """
    if description.spoken < PROTOCOL_OLDEST:
        raise InvalidArgument(
            f"this host's agent (pyswarm {quoted(description.engine_version)}) speaks protocol"
            f" {description.spoken}, the controller {PROTOCOL_OLDEST} to {PROTOCOL}: upgrade"
            " pyswarm on the host"
        )


def require_clock(clock: int, now: Instant) -> None:
    """Raise InvalidArgument if the host's clock, just sent, is too far from this one."""
    skew = clock - now
    if clock and abs(skew) > CLOCK_SKEW_REFUSED:
        raise InvalidArgument(
            f"this host's clock is {abs(skew) // SECOND} s {'ahead of' if skew > 0 else 'behind'}"
            " the controller's, so that certificates would not be valid: set both by NTP, then join"
        )


def role_of(cluster: Cluster, token: str) -> str:
    """The role that this join token gives. Raises PermissionDenied."""
    if cluster.worker_token and hmac.compare_digest(token.encode(), cluster.worker_token.encode()):
        return "worker"
    raise PermissionDenied(
        "the join token is not valid: it was rotated, or is of another fleet. `pyswarm swarm"
        " join-token worker` on a controller's host prints the current one"
    )


def member(state: State, node_id: NodeId) -> Node:
    """The node of that id. Raises NotFound."""
    if (node := state.nodes.get(node_id)) is None:
        raise NotFound(f"node {quoted(node_id)} is not in this cluster: join again")
    return node


def greet(
    state: State, node_id: NodeId, description: NodeDescription, addr: str, addrs6: Iterable[str]
) -> Greeted:
    """The node with the description that its agent reported.

    Raises NotFound, InvalidArgument, AlreadyExists (another node has its name or address).
    """
    node = member(state, node_id)
    require_protocol(description)
    require([*description_problems(description), *address_problems(addr)])
    # A node that is not down keeps its name and address: they were free when it joined.
    is_back = node.status.state is NodeState.DOWN
    if is_back or description.hostname != node.description.hostname or addr != node.status.addr:
        _require_unclaimed(state, {node_id}, description.hostname, addr)
    at = state.node_table.at
    free6 = [a for a in _addresses6(addrs6) if _living(state, {node_id}, at(a)) is None]
    return Greeted(description, addr, tuple(free6))


def _left(state: State, hostname: str, addr: str) -> list[Node]:
    """Nodes of that name or address whose host seems to have left the fleet: drained, without
    tasks, and silent.
    """
    table = state.node_table
    return [
        node
        for node_id in dict.fromkeys((*table.named(hostname), *table.at(addr)))
        for node in (state.nodes[node_id],)
        if node.status.state is NodeState.DISCONNECTED
        and node.spec.availability is Availability.DRAIN
        and all(is_terminal(task.state) for task in state.tasks_of_node(node.id).values())
    ]


def _require_unclaimed(state: State, besides: Container[NodeId], hostname: str, addr: str) -> None:
    """Raise AlreadyExists if a node that is not down, other than these, has the name or the
    address, or a network has the address.

    A host that left its fleet and joins again finds its former node down, or soon down.
    """
    table = state.node_table
    for what, holders, option in (
        (f"hostname {hostname}", table.named(hostname), "hostname (in agent.yaml, or --hostname)"),
        (f"address {addr}", table.at(addr), "--advertise-addr"),
    ):
        if (holder := _living(state, besides, holders)) is not None:
            raise AlreadyExists(
                f"{what} belongs to node {short(holder.id)} ({holder.description.hostname}), which"
                f" is {holder.status.state}: if it is this host's former node, wait until that is"
                f" down; otherwise give one of them another {option}"
            )
    address = int(IPv4Address(addr))
    for network in state.networks.values():
        first, last = span_of(network.subnet)
        if first <= address <= last:
            raise AlreadyExists(
                f"address {addr} belongs to network {network.spec.name} ({network.subnet}):"
                " create that network with another --subnet, or choose another --advertise-addr"
            )


def _living(state: State, besides: Container[NodeId], nodes: Iterable[NodeId]) -> Node | None:
    """The first of these nodes that is not down, other than `besides`."""
    for other in nodes:
        node = state.nodes[other]
        if other not in besides and node.status.state is not NodeState.DOWN:
            return node
    return None


def _addresses6(told: Iterable[str]) -> tuple[str, ...]:
    """A host's IPv6 addresses as they are stored: usable ones, and not too many."""
    try:
        return usable6(islice(told, ADDRESSES6_MAX))
    except ValueError as error:
        reason = f"{quoted(str(error))}: expected the host's IPv6 addresses"
        raise InvalidArgument(reason) from None


def bounded(status: TaskStatus) -> TaskStatus:
    """The status with its texts cut to the stored lengths, without invalid or excess addresses and
    ports.
    """
    detail = status.detail
    if not detail.ports and _fits(detail):
        return status
    kept = msgspec.structs.replace(
        detail,
        message=clipped(detail.message, DETAIL_LENGTH_MAX),
        error=clipped(detail.error, DETAIL_LENGTH_MAX),
        in_place_error=clipped(detail.in_place_error, DETAIL_LENGTH_MAX),
        addresses=tuple([a for a in detail.addresses if _is_address(a)][:ADDRESSES_PER_TASK]),
        ports=tuple([p for p in detail.ports if _is_port(p)][:PORTS_PER_TASK]),
    )
    return status if kept == detail else TaskStatus(status.task_id, status.state, kept)


def _fits(detail: TaskDetail) -> bool:
    # UTF-8 has at most four bytes for a character.
    texts = (detail.message, detail.error, detail.in_place_error)
    is_short = 4 * max(map(len, texts)) <= DETAIL_LENGTH_MAX
    addresses = detail.addresses
    return is_short and len(addresses) <= ADDRESSES_PER_TASK and all(map(_is_address, addresses))


def _is_address(told: TaskAddress) -> bool:
    return len(told.network_id) <= ID_LENGTH and _is_ipv4(told.address)


@lru_cache(1 << 14)
def _is_ipv4(text: str) -> bool:
    # Reported again with every change of a task.
    try:
        return str(IPv4Address(text)) == text
    except ValueError:
        return False


def _is_port(port: PortConfig) -> bool:
    return max(port.target_port, port.published_port) < 1 << 16 and len(port.host_ip) <= HOST_IP_MAX
