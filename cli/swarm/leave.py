"""`pyswarm swarm leave`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from cli import context
from cli.lazy import Verb
from cli.swarm import joining
from cli.swarm.host import STATE_DIR, Host, Supervisor, supervisor
from pyswarm_core.errors import Conflict, NotFound, PyswarmError, Unavailable
from pyswarm_core.states import Availability

if TYPE_CHECKING:
    from cli.client import Client

DRAIN_TIMEOUT_S = 60.0
_PAUSE_S = 0.2


@click.command(
    cls=Verb,
    help="Leave the fleet: this host's tasks end and are replaced on other hosts\n\n"
    "The node stays in `node ls` as down until `node rm`.\n\nExample: pyswarm swarm leave",
)
@click.option(
    "-f",
    "--force",
    is_flag=True,
    help="Force this node to leave, even if its tasks or its controller are lost",
)
@click.option("--state-dir", type=click.Path(path_type=Path), default=STATE_DIR, show_default=True,
              help="Directory given to `swarm init` or `swarm join`")  # fmt: skip
def leave(*, force: bool, state_dir: Path) -> None:
    host = Host(state_dir.absolute())
    keeper = supervisor()
    controller, agent = host.daemon("controller", ()), host.daemon("agent", ())
    identity = joining.identity(host)
    if identity is None and not keeper.runs(agent) and not keeper.runs(controller):
        raise NotFound("this node is not part of a swarm")
    if keeper.runs(controller) and not force:
        raise Conflict(
            "this host runs the controller, without which nothing in the fleet can be changed: "
            "use --force to leave anyway"
        )
    if identity is not None:
        _empty(host, keeper, identity, force=force)
    keeper.stop(agent)
    keeper.stop(controller)
    joining.forget(host)
    context.leave(f"unix://{host.socket}")
    click.echo("Node left the swarm.")


def _empty(host: Host, keeper: Supervisor, identity: joining.Identity, *, force: bool) -> None:
    """Drain the node through a controller and wait until its tasks have ended."""
    from cli.client import Client

    address = identity.controllers[0] if identity.controllers else f"unix://{host.socket}"
    try:
        with Client(address) as client:
            _drain(client, identity.node_id)
    except NotFound:
        return
    except PyswarmError as error:
        if not force:
            raise Unavailable(
                f"the node could not be emptied ({error}): use --force to leave all the same"
            ) from None
        click.echo(f"warning: the node was not emptied: {error}", err=True)


def _drain(client: "Client", node_id: str) -> None:
    node = client.node(node_id).node
    client.update_node(node, replace(node.spec, availability=Availability.DRAIN))
    deadline = time.monotonic() + DRAIN_TIMEOUT_S
    while left := client.node(node_id).tasks:
        if time.monotonic() > deadline:
            raise Unavailable(f"{left} tasks have not ended within {DRAIN_TIMEOUT_S:g} s")
        time.sleep(_PAUSE_S)
