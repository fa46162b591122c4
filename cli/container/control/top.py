"""`pyswarm top`."""

import click

from cli import session
from cli.lazy import Verb
from cli.render.listing import table, visible


@click.command(
    cls=Verb,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    help="Display the running processes of a container\n\n"
    "The options are those of ps(1) on its host (default -ef); pids and users are the host's.\n\n"
    "Example: pyswarm top web.1 -o pid,rss,args",
)
@click.argument("container")
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[PS OPTIONS]")
def top(*, container: str, options: tuple[str, ...]) -> None:
    client = session.connect()
    from cli.container.control import calls

    found = calls.top(client, container, options)
    rows = [tuple(map(visible, row.cells)) for row in found.rows]
    for line in table([found.titles, *rows]):
        click.echo(line)
