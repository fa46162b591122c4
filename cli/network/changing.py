"""Changes the networks of a container, and waits for its node. SHELL."""

from collections.abc import Callable

import click

from cli import converge
from cli.client import Client
from cli.container import calls
from cli.container.calls import Named
from cli.container.lifecycle.stopping import runs
from cli.converge import Watched
from cli.network.connecting import Joined
from cli.service.change import changed
from pyswarm_core.errors import NotFound
from pyswarm_core.specs import PREDEFINED_NETWORKS, ServiceSpec


def named(client: Client, ref: str) -> Joined:
    """The network of that name, id or prefix. Raises NotFound in Docker's words."""
    if ref in PREDEFINED_NETWORKS:
        return Joined(ref, ref)
    try:
        network = client.network(ref)
    except NotFound as error:
        if "ambiguous" in str(error):
            raise
        raise NotFound(f"network {ref} not found") from None
    return Joined(network.id, network.spec.name, network.spec.ingress)


def change(
    client: Client,
    container: Named,
    edit: Callable[[ServiceSpec], ServiceSpec],
    *,
    wait: bool = True,
) -> None:
    """Change the container's spec; of one that runs, return once its node has changed the
    container. Says on stderr if that took a restart.
    """
    service = changed(client, container.service.id, edit)
    if not wait or not runs(container):
        return
    converge.until_converged(client, [Watched.of(service)], quiet=True)
    now = calls.named(client, service.id)
    before = container.task.task.id if container.task else ""
    if now.task is not None and now.task.task.id != before:
        name = service.spec.name
        click.echo(f"container {name} was restarted: see `pyswarm why {name}`", err=True)
