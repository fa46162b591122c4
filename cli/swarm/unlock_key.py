"""`pyswarm swarm unlock-key`."""

import click

from cli import session
from cli.lazy import Verb
from cli.swarm.update import unlocking


@click.command(
    name="unlock-key",
    cls=Verb,
    help="Display or replace the unlock key\n\nExample: pyswarm swarm unlock-key --rotate",
)
@click.option("-q", "--quiet", is_flag=True, help="Only display token")
@click.option("--rotate", is_flag=True, help="Rotate unlock key")
def unlock_key(*, quiet: bool, rotate: bool) -> None:
    key = session.connect().unlock_key(rotate=rotate)
    if quiet:
        click.echo(key)
        return
    if rotate:
        click.echo("Successfully rotated manager unlock key.\n")
    click.echo(unlocking(key))
