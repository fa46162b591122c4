"""`pyswarm user inspect`."""

import click

from cli import flags, inspection, session
from cli.lazy import Verb
from pyswarm_core.docker import documents
from pyswarm_core.kinds import USER


@click.command(
    cls=Verb,
    help="Display detailed information on one or more users\n\n"
    "Example: pyswarm user inspect ci --format '{{.Spec.Role}}'",
)
@flags.inspect_format
@click.argument("users", nargs=-1, required=True, metavar="USER...")
def inspect(*, form: str, users: tuple[str, ...]) -> None:
    client = session.connect()
    inspection.inspect_all(users, form, lambda ref: documents.document(client.object(USER, ref)))
