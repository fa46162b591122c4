"""`pyswarm network prune`."""

import click

from cli import session
from cli.lazy import Verb
from cli.verbs import pruning
from pyswarm_core.errors import Conflict, NotFound
from pyswarm_core.kinds import NETWORK

_WARNING = "This will remove all custom networks not used by at least one container."


@click.command(
    cls=Verb,
    help="Remove all networks that no service, container or task uses\n\n"
    "Example: pyswarm network prune --force --filter until=24h",
)
@pruning.force
@pruning.filters
def prune(*, force: bool, filters: tuple[str, ...]) -> None:
    choose = pruning.chosen(filters)
    if not force and not pruning.confirmed(_WARNING):
        return
    client = session.connect()
    removed = 0
    for network in client.objects(NETWORK, ("dangling=true",)):
        if not choose(network.created_at, network.spec.labels):
            continue
        try:
            client.remove_object(NETWORK, network.id)
        except (Conflict, NotFound):
            continue  # it was joined or removed since it was listed
        if not removed:
            click.echo("Deleted Networks:")
        click.echo(network.spec.name)
        removed += 1
