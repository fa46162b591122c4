"""`pyswarm user rm`."""

from functools import partial

import click

from cli import session
from cli.failures import for_each
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
    for_each(users, partial(client.remove_object, USER))
