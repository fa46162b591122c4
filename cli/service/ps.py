"""`pyswarm service ps`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cli import flags, session
from cli.lazy import Verb
from cli.render import listing, tasks
from cli.render.output import echo_lines
from cli.render.tasks import LAYOUT, Style
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.views import TaskView

if TYPE_CHECKING:
    from cli.client import Client


@click.command(
    cls=Verb,
    help="List the tasks of one or more services\n\n"
    "Example: pyswarm service ps web --filter desired-state=running",
)
@flags.quiet_ids
@flags.no_trunc
@flags.no_resolve
@flags.filter_
@flags.format_
@click.argument("services", nargs=-1, required=True, metavar="SERVICE...")
def ps(
    *,
    quiet: bool,
    no_trunc: bool,
    no_resolve: bool,
    filters: tuple[str, ...],
    form: str,
    services: tuple[str, ...],
) -> None:
    client = session.connect()
    found = client.tasks(services=services, filters=filters)
    is_table = not form or form.startswith("table")
    style = Style(truncate=not no_trunc and not quiet, resolve=not no_resolve, tree=is_table)
    show(client, found, style, form, quiet=quiet)


def show(
    client: "Client", found: Sequence[TaskView], style: Style, form: str, *, quiet: bool
) -> None:
    """Print the tasks; of a table, also how many wait and have none."""
    rows = list(tasks.rows(found, SystemClock().now(), style))
    echo_lines(listing.show(LAYOUT, rows, form, quiet=quiet))
    if style.tree and not quiet:
        waiting = {view.task.service_id: None for view in found if view.task.state in tasks.WAITING}
        summaries = client.services([f"id={one}" for one in waiting]) if waiting else []
        for summary in summaries:
            if summary.unlisted:
                click.echo(tasks.unlisted(summary), err=True)
