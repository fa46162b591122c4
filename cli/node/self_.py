"""Which node `self` is: the one that answers, as in Docker."""

from typing import TYPE_CHECKING

from pyswarm_core.errors import NotFound
from pyswarm_core.views import NodeView

if TYPE_CHECKING:
    from cli.client import Client


def node_of(client: "Client", ref: str) -> NodeView:
    """The node that `ref` names. Raises NotFound."""
    if ref != "self":
        return client.node(ref)
    found = next((view for view in client.nodes() if view.leader), None)
    if found is None:
        raise NotFound("self: the controller does not run on a node of the fleet; name a node")
    return found
