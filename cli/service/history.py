"""`pyswarm service history`."""

import click

from cli import flags, session
from cli.lazy import Verb
from cli.render import listing
from cli.render.history import LAYOUT, diffs, revisions, rows
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.errors import InvalidArgument


@click.command(
    cls=Verb,
    help="Show the current and the last 10 earlier specs of a service, and what each changed\n\n"
    "Example: pyswarm service history --diff web",
)
@click.option("--diff", is_flag=True, help="Print the changes as unified diffs, newest first")
@flags.format_
@click.argument("service")
def history(*, diff: bool, form: str, service: str) -> None:
    if diff and form:
        raise InvalidArgument("--diff conflicts with --format: expected one of them")
    found = revisions(session.connect().service(service))
    shown = (
        diffs(found) if diff else listing.show(LAYOUT, list(rows(found, SystemClock().now())), form)
    )
    for line in shown:
        click.echo(line)
