"""`self`: the node of the controller that answers, as in Docker."""

from typing import TYPE_CHECKING

from pyswarm_core.errors import NotFound
from pyswarm_core.views import NodeView

if TYPE_CHECKING:
    from cli.client import Client


def node_of(client: "Client", ref: str) -> NodeView:
    """The node of that name, id, id prefix, or `self`. Raises NotFound."""
    if ref != "self":
        return client.node(ref)
    found = next((view for view in client.nodes() if view.leader), None)
    if found is None:
        raise NotFound("self: the controller does not run on a node of the fleet: specify a node")
    return found
