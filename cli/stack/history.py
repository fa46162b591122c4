"""`pyswarm stack history`."""

import click

from cli import flags, session
from cli.lazy import Verb
from cli.render import listing
from cli.render.output import echo_lines
from cli.render.stacks import LAYOUT, rows
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.kinds import STACK


@click.command(
    cls=Verb,
    help="Show the current and the last 10 earlier versions of a stack, and what each changed\n\n"
    "Example: pyswarm stack history shop",
)
@flags.format_
@click.argument("stack", metavar="STACK")
def history(*, form: str, stack: str) -> None:
    found = session.connect().object(STACK, stack)
    echo_lines(listing.show(LAYOUT, list(rows(found, SystemClock().now())), form))
