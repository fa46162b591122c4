"""`pyswarm ps`, also `container ls`."""

import click

from cli import flags, session
from cli.lazy import Verb

LAST_MAX = 1_000_000


@click.command(
    cls=Verb,
    help="List containers: those of `run`, and the tasks of all services\n\n"
    "Example: pyswarm ps --all --filter node=host2",
)
@click.option(
    "-a", "--all", "every", is_flag=True, help="Show all containers (default shows just running)"
)
@flags.filter_
@flags.format_
@click.option(
    "-n", "--last", type=flags.Number(-1, LAST_MAX), default=-1,
    help="Show n last created containers (includes all states)",
)  # fmt: skip
@click.option(
    "-l", "--latest", is_flag=True, help="Show the latest created container (includes all states)"
)
@flags.no_trunc
@flags.quiet_ids
@click.option("-s", "--size", is_flag=True, help="Display total file sizes")
def ps(
    *,
    every: bool,
    filters: tuple[str, ...],
    form: str,
    last: int,
    latest: bool,
    no_trunc: bool,
    quiet: bool,
    size: bool,
) -> None:
    from cli.container import calls
    from cli.render import containers, listing
    from cli.render.output import echo_lines
    from pyswarm_core.aio.system import SystemClock

    count = 1 if latest else max(0, last)
    listing.show(containers.layout(with_size=size), [], form, quiet=quiet)  # refuses a wrong format
    client = session.connect()
    found = calls.containers(
        client,
        every=every,
        last=count,
        filters=filters,
        size=not quiet and (size or ".Size" in form),
    )
    if not quiet and (form in ("", "table", "json") or ".Command" in form):
        found = calls.with_commands(client, found)
    rows = containers.rows(found, SystemClock().now(), truncate=not no_trunc)
    echo_lines(listing.show(containers.layout(with_size=size), rows, form, quiet=quiet))
