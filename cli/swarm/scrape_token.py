"""`pyswarm swarm scrape-token`."""

import click

from cli import session
from cli.lazy import Verb
from pyswarm_core.errors import NotFound


@click.command(
    name="scrape-token",
    cls=Verb,
    help="Display the token with which metrics are read from other hosts\n\n"
    "Example: pyswarm swarm scrape-token > scrape-token",
)
@click.option("--rotate", is_flag=True, help="Replace the token; the former one is refused at once")
@click.option("-q", "--quiet", is_flag=True, help="Only display token, as without this flag")
def scrape_token(*, rotate: bool, quiet: bool) -> None:
    del quiet
    token = session.connect().scrape_token(rotate=rotate)
    if not token:
        raise NotFound("this fleet has no scrape token yet: add --rotate to make one")
    click.echo(token)
