"""`pyswarm node ps`."""

import click

from cli import flags, session
from cli.lazy import Verb
from cli.node.self_ import node_of
from cli.render import listing, tasks
from cli.render.output import echo_lines
from cli.render.tasks import LAYOUT, Style
from pyswarm_core.aio.system import SystemClock


@click.command(
    cls=Verb,
    help="List tasks running on one or more nodes (default: the controller's node)\n\n"
    "Example: pyswarm node ps host2 --filter desired-state=running",
)
@flags.quiet_ids
@flags.no_trunc
@flags.no_resolve
@flags.filter_
@flags.format_
@click.argument("nodes", nargs=-1, metavar="[NODE...]")
def ps(
    *,
    quiet: bool,
    no_trunc: bool,
    no_resolve: bool,
    filters: tuple[str, ...],
    form: str,
    nodes: tuple[str, ...],
) -> None:
    client = session.connect()
    node_ids = [node_of(client, ref).node.id for ref in nodes or ("self",)]
    found = client.tasks(nodes=node_ids, filters=filters)
    is_table = not form or form.startswith("table")
    style = Style(truncate=not no_trunc and not quiet, resolve=not no_resolve, tree=is_table)
    rows = list(tasks.rows(found, SystemClock().now(), style))
    echo_lines(listing.show(LAYOUT, rows, form, quiet=quiet))
