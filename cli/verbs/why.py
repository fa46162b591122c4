"""`pyswarm why`."""

import click

from cli import session
from cli.lazy import Verb
from cli.render.listing import one_line


@click.command(
    cls=Verb,
    help="Explain the state of a task, service or container, with causes and remedies\n\n"
    "Example: pyswarm why web.3",
)
@click.argument("ref", metavar="TASK|SERVICE")
def why(*, ref: str) -> None:
    for line in session.connect().why(ref):
        click.echo(one_line(line))
