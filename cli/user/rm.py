"""`pyswarm user rm`."""

import click

from cli import session
from cli.failures import Failures
from cli.lazy import Verb
from pyswarm_core.kinds import USER


@click.command(
    cls=Verb,
    help="Remove one or more users\n\nTheir certificates and tokens stop working at once, on open"
    " streams too.\n\nExample: pyswarm user rm ci",
)
@click.argument("users", nargs=-1, required=True, metavar="USER...")
def rm(*, users: tuple[str, ...]) -> None:
    client = session.connect()
    with Failures() as failures:
        for ref in users:
            with failures.collected():
                client.remove_object(USER, ref)
                click.echo(ref)
