"""`pyswarm container prune`."""

import click

from cli.lazy import Verb
from cli.verbs import pruning

_WARNING = "This will remove all stopped containers of the fleet."


@click.command(
    cls=Verb,
    help="Remove all stopped containers, with their files; ended tasks of services stay\n\n"
    "Example: pyswarm container prune --force",
)
@pruning.force
@pruning.filters
def prune(*, force: bool, filters: tuple[str, ...]) -> None:
    from cli import converge, session
    from cli.container import calls
    from cli.converge import Watched
    from pyswarm_core.docker.units import decimal_size

    choose = pruning.chosen(filters)
    if not force and not pruning.confirmed(_WARNING):
        return
    client = session.connect()
    states = tuple(f"status={word}" for word in ("created", "exited", "dead"))
    found = calls.containers(client, every=True, filters=(*states, "is-task=false"), size=True)
    gone = [one for one in found if choose(one.created_at, one.labels)]
    watched = [Watched.of(client.remove_service(one.service_id)) for one in gone]
    if gone:
        click.echo("Deleted Containers:")
        for one in gone:
            click.echo(one.id)
        converge.until_gone(client, watched, quiet=True)
        click.echo()
    click.echo(f"Total reclaimed space: {decimal_size(sum(max(0, one.size_rw) for one in gone))}")
