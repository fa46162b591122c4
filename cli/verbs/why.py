"""`pyswarm why`."""

import click

from cli import session
from cli.lazy import Verb
from cli.render.listing import one_line


@click.command(
    cls=Verb,
    help="Say why a task or service is as it is: the cause, the numbers, what would fix it.\n\n"
    "Example: pyswarm why web.3",
)
@click.argument("ref", metavar="TASK|SERVICE")
def why(*, ref: str) -> None:
    for line in session.connect().why(ref):
        click.echo(one_line(line))
