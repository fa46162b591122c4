"""`pyswarm diff`."""

import click

from cli import session
from cli.lazy import Verb
from cli.render.listing import visible


@click.command(
    cls=Verb,
    help="Inspect changes to files or directories on a container's filesystem\n\n"
    "A: added, C: changed, D: deleted since its image.\n\n"
    "Example: pyswarm diff web.1",
)
@click.argument("container")
def diff(*, container: str) -> None:
    client = session.connect()
    from cli.container.control import calls

    for change in calls.changes(client, container):
        click.echo(f"{change.kind} {visible(change.path)}")
