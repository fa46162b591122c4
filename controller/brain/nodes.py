"""The only place that changes a node's state, and the rule for which nodes are managers. PURE.

The edges of the state machine, and when each fires, are `pyswarm_core.states.NODE_TRANSITIONS`.
"""

from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address

import msgspec

from pyswarm_core.clock import Instant
from pyswarm_core.ids import NodeId
from pyswarm_core.objects import Node, NodeDescription, Version
from pyswarm_core.state import State
from pyswarm_core.states import NODE_TRANSITIONS, InvalidTransition, NodeState

MANAGER = "manager"


def moved(node: Node, state: NodeState, now: Instant, message: str = "") -> Node:
    """The node in this state since `now`; if it was in it already, with the new message alone.
    Raises InvalidTransition for an edge that the table does not have.
    """
    status = node.status
    if status.state is state:
        status = msgspec.structs.replace(status, message=message)
        return msgspec.structs.replace(node, status=status)
    if (status.state, state) not in NODE_TRANSITIONS:
        raise InvalidTransition(f"node {node.id}: {status.state} to {state}")
    status = msgspec.structs.replace(status, state=state, since=now, message=message)
    return msgspec.structs.replace(node, status=status)


def host_of(controller: str) -> str:
    """The host of a controller's HOST:PORT."""
    return controller.rpartition(":")[0].strip("[]")


def runs_controller(node: Node, controllers: Iterable[str]) -> bool:
    """Whether one of the controllers answers at the node's address."""
    return bool(node.status.addr) and node.status.addr in map(host_of, controllers)


def is_beside_controller(node: Node, controllers: Sequence[str], peer: str) -> bool:
    """Whether one of the controllers answers at the node's address, and the node's agent calls from
    that: `peer`. Every host may claim an address. The agent beside the leader, which is the first
    of the controllers, may also call over loopback.
    """
    if not peer or not runs_controller(node, controllers):
        return False
    is_leaders = node.status.addr == host_of(controllers[0])
    return peer == node.status.addr or (is_leaders and ip_address(peer).is_loopback)


def promoted(node: Node, controllers: Sequence[str], peer: str) -> Node:
    """The node, made a manager if one of the controllers runs on the host from which its agent
    calls.
    """
    if node.spec.role == MANAGER or not is_beside_controller(node, controllers, peer):
        return node
    spec = msgspec.structs.replace(node.spec, role=MANAGER)
    version = Version(index=node.version.index + 1)
    return msgspec.structs.replace(node, spec=spec, version=version)


def managers(
    state: State, controllers: Sequence[str], peer_of: Callable[[NodeId], str]
) -> list[Node]:
    """The nodes that are managers because one of the controllers runs there, and were not yet.
    `peer_of` returns the address from which the node's agent calls, "" without a session.
    """
    at = state.node_table.at
    found = [state.nodes[n] for address in controllers for n in at(host_of(address))]
    return [new for old in found if (new := promoted(old, controllers, peer_of(old.id))) is not old]


class Greeted(msgspec.Struct, frozen=True):
    """What a node reports of itself when it opens a session, validated."""

    description: NodeDescription
    addr: str
    addrs6: tuple[str, ...]
    peer: str = ""
    """The address from which the agent calls, which the connection shows."""
