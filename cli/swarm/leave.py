"""`pyswarm swarm leave`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.context import store
from cli.lazy import Verb
from cli.swarm import admin, joining
from cli.swarm.host import STATE_DIR, Host, host_supervisor
from pyswarm_core.errors import Conflict, NotFound, PyswarmError, Unavailable

if TYPE_CHECKING:
    from cli.client import Client

DRAIN_TIMEOUT_S = 60.0
_PAUSE_S = 0.2


@click.command(
    cls=Verb,
    help="Leave the fleet, once the tasks of this host have ended\n\n"
    "They are replaced on other hosts. The node stays in `node ls` as down until `node rm`.\n\n"
    "Example: pyswarm swarm leave",
)
@click.option(
    "-f",
    "--force",
    is_flag=True,
    help="Force this node to leave the fleet, ignoring warnings",
)
@click.option("--state-dir", type=click.Path(path_type=Path), default=STATE_DIR, show_default=True,
              help="State directory given to `swarm init` or `swarm join`")  # fmt: skip
def leave(*, force: bool, state_dir: Path) -> None:
    host = Host(state_dir.absolute())
    supervisor = host_supervisor()
    controller, agent = host.daemon("controller", ()), host.daemon("agent", ())
    identity = joining.identity(host)
    if identity is None and not supervisor.runs(agent) and not supervisor.runs(controller):
        raise NotFound("this node is not part of a swarm")
    if supervisor.runs(controller) and not force:
        raise Conflict(
            "this host runs the only controller, without which the fleet cannot be changed: "
            "use --force to leave anyway"
        )
    if identity is not None:
        drain_node(identity, force=force)
        if supervisor.runs(controller):
            admin.forget_context(identity.controllers)
    supervisor.stop(agent)
    supervisor.stop(controller)
    joining.forget(host)
    store.leave(f"unix://{host.socket}")
    click.echo("Node left the swarm.")


def drain_node(identity: joining.Identity, *, force: bool) -> None:
    """Drain the node and wait until its tasks have ended; no-op if it was removed. Raises
    Unavailable.
    """
    from cli.client import Client

    try:
        with Client(identity.context) as client:
            _drain(client)
    except NotFound:
        return
    except PyswarmError as error:
        if not force:
            raise Unavailable(
                f"the node could not be drained ({error}): use --force to leave anyway"
            ) from None
        click.echo(f"warning: the node was not drained: {error}", err=True)


def _drain(client: "Client") -> None:
    deadline = time.monotonic() + DRAIN_TIMEOUT_S
    while left := client.leave():
        if time.monotonic() > deadline:
            raise Unavailable(f"{left} tasks have not ended after {DRAIN_TIMEOUT_S:g} s")
        time.sleep(_PAUSE_S)
