"""`pyswarm stack ps`."""

import click

from cli import flags, session
from cli.lazy import Verb
from cli.render.tasks import Style
from cli.service.ps import show


@click.command(
    cls=Verb,
    help="List the tasks in the stack\n\n"
    "Example: pyswarm stack ps shop --filter desired-state=running",
)
@flags.quiet_ids
@flags.no_trunc
@flags.no_resolve
@flags.filter_
@flags.format_
@click.argument("stack", metavar="STACK")
def ps(
    *,
    quiet: bool,
    no_trunc: bool,
    no_resolve: bool,
    filters: tuple[str, ...],
    form: str,
    stack: str,
) -> None:
    from cli.stack.calls import services_of

    client = session.connect()
    services = [one.service.id for one in services_of(client, stack)]
    is_table = not form or form.startswith("table")
    style = Style(truncate=not no_trunc and not quiet, resolve=not no_resolve, tree=is_table)
    show(client, client.tasks(services=services, filters=filters), style, form, quiet=quiet)
