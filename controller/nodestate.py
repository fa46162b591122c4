"""The state machine of nodes: the one place that changes a node's state. PURE.

Its edges, and when each fires, are `pyswarm_core.states.NODE_TRANSITIONS`.
"""

import msgspec

from pyswarm_core.clock import Instant
from pyswarm_core.objects import Node
from pyswarm_core.states import NODE_TRANSITIONS, InvalidTransition, NodeState


def moved(node: Node, state: NodeState, now: Instant, message: str = "") -> Node:
    """The node in this state since `now`; if it is in it already, only the message is new.

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
