"""How a host becomes a node, and what an agent may say of it. PURE."""

import hmac
import ipaddress
from collections.abc import Iterable

import msgspec

from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import InvalidArgument, PermissionDenied, Unavailable
from pyswarm_core.ids import IdSource, NodeId
from pyswarm_core.limits import ADDRESSES6_MAX, DETAIL_LENGTH_MAX, NODES_MAX
from pyswarm_core.objects import Cluster, Node, NodeDescription, NodeStatus, TaskStatus
from pyswarm_core.specs import NodeSpec
from pyswarm_core.state import State
from pyswarm_core.states import Availability, TaskState

ADDRESSES_MAX = 16
"""Addresses kept of one task."""


class JoinWish(msgspec.Struct, frozen=True):
    """What a host says when it shows its token."""

    token: str
    description: NodeDescription
    addr: str
    availability: str = ""


def join(state: State, wish: JoinWish, now: Instant, ids: IdSource) -> tuple[Writes, Node]:
    """Make the host a node with a number of its own; the same host joining again is a new node.

    Raises PermissionDenied for a wrong token, InvalidArgument, Unavailable when the fleet is full.
    """
    cluster = state.cluster
    role = role_of(cluster, wish.token)
    check_host(wish.description, wish.addr)
    if len(state.nodes) >= NODES_MAX:
        raise Unavailable(f"there are {NODES_MAX} nodes, which is the limit")
    try:
        availability = Availability(wish.availability or "active")
    except ValueError:
        words = ", ".join(word.value for word in Availability)
        raise InvalidArgument(f"availability {wish.availability!r}: want one of {words}") from None
    (node_id,) = ids.draw(1)
    node = Node(
        id=NodeId(node_id),
        number=cluster.next_node_number,
        description=wish.description,
        spec=NodeSpec(role=role, availability=availability),
        created_at=now,
        updated_at=now,
        status=NodeStatus(since=now, addr=wish.addr),
    )
    counted = msgspec.structs.replace(cluster, next_node_number=node.number + 1)
    return Writes(cluster=counted, nodes=(node,)), node


def role_of(cluster: Cluster, token: str) -> str:
    """The role that this join token gives. Raises PermissionDenied."""
    for role, expected in (("worker", cluster.worker_token), ("manager", cluster.manager_token)):
        if expected and hmac.compare_digest(token.encode(), expected.encode()):
            return role
    raise PermissionDenied("the join token is not this cluster's: get it with pyswarm swarm info")


def check_host(description: NodeDescription, addr: str) -> None:
    """Raise InvalidArgument for a host that cannot be a node."""
    if not 0 < len(description.hostname) <= 253:
        raise InvalidArgument("hostname must have 1 to 253 characters")
    if description.resources.nano_cpus < 0 or description.resources.memory_bytes < 0:
        raise InvalidArgument("resources must not be negative")
    try:
        ipaddress.ip_address(addr)
    except ValueError:
        raise InvalidArgument(
            f"address {addr!r}: want the host's IP address on the underlay"
        ) from None


def addresses6(told: Iterable[str]) -> tuple[str, ...]:
    """A host's addresses of IPv6 as they are kept: written in one way, and not too many."""
    try:
        found = [str(ipaddress.IPv6Address(address)) for address in told]
    except ValueError as error:
        raise InvalidArgument(f"{error}: want the host's addresses of IPv6") from None
    return tuple(found[:ADDRESSES6_MAX])


def bounded(status: TaskStatus) -> TaskStatus:
    """The status with its texts cut to what is stored."""
    detail = status.detail
    fits = len(detail.message) <= DETAIL_LENGTH_MAX and len(detail.error) <= DETAIL_LENGTH_MAX
    if fits and len(detail.addresses) <= ADDRESSES_MAX:
        return status
    cut = msgspec.structs.replace(
        detail,
        message=_cut(detail.message),
        error=_cut(detail.error),
        addresses=detail.addresses[:ADDRESSES_MAX],
    )
    return TaskStatus(status.task_id, TaskState(status.state), cut)


def _cut(text: str) -> str:
    return text if len(text) <= DETAIL_LENGTH_MAX else text[: DETAIL_LENGTH_MAX - 3] + "..."
