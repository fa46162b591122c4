"""`pyswarm stack services`."""

import click

from cli import flags, session
from cli.lazy import Verb
from cli.render import listing
from cli.render.output import echo_lines
from cli.service.ls import LAYOUT, row


@click.command(
    cls=Verb,
    help="List the services in the stack\n\n"
    "Example: pyswarm stack services shop --filter name=shop_web",
)
@flags.quiet_ids
@flags.filter_
@flags.format_
@click.argument("stack", metavar="STACK")
def services(*, quiet: bool, filters: tuple[str, ...], form: str, stack: str) -> None:
    from cli.stack.calls import services_of

    found = services_of(session.connect(), stack, filters)
    long = quiet or bool(form)
    echo_lines(listing.show(LAYOUT, [row(one, long=long) for one in found], form, quiet=quiet))
