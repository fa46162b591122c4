"""`pyswarm service logs`."""

from collections.abc import Iterable

import click

from cli import flags, session
from cli.lazy import Verb
from cli.render.loglines import Form, rendered
from cli.times import instant
from pyswarm_core.errors import Unavailable, invalid
from pyswarm_core.views import Logs

EVERYTHING = -1
TAIL_MAX = 2**31 - 1


@click.command(
    cls=Verb,
    help="Fetch the logs of a service or task\n\n"
    "Example: pyswarm service logs --follow --tail 10 web",
)
@click.option("-f", "--follow", is_flag=True, help="Follow log output")
@click.option(
    "-n",
    "--tail",
    default="all",
    metavar="LINES",
    help="Number of lines to show from the end of the logs of each task",
)
@click.option(
    "--since",
    default="",
    metavar="TIME",
    help="Show logs since timestamp (2026-01-31T08:00:00) or relative (10m)",
)
@click.option("-t", "--timestamps", is_flag=True, help="Show timestamps")
@click.option("--raw", is_flag=True, help="Do not neatly format logs")
@click.option("--no-task-ids", is_flag=True, help="Do not include task IDs in output")
@flags.no_resolve
@flags.no_trunc
@click.argument("ref", metavar="SERVICE|TASK")
def logs(
    *,
    follow: bool,
    tail: str,
    since: str,
    timestamps: bool,
    raw: bool,
    no_task_ids: bool,
    no_resolve: bool,
    no_trunc: bool,
    ref: str,
) -> None:
    count = parse_tail(tail)
    start = instant("--since", since) if since else 0
    form = Form(
        timestamps=timestamps,
        prefix=not raw,
        task_ids=not no_task_ids,
        resolve=not no_resolve,
        truncate=not no_trunc,
    )
    lines = session.connect().logs(ref, follow=follow, tail=count, since=start)
    show(lines, form, follow=follow)


def show(lines: Iterable[Logs], form: Form, *, follow: bool) -> None:
    """Print the lines on the streams to which they were written."""
    try:
        for batch in lines:
            if batch.warning:
                click.echo(f"warning: {batch.warning}", err=True)
            to_out, to_err = rendered(batch, form)
            click.echo(to_out, nl=False)
            click.echo(to_err, nl=False, err=True)
    except Unavailable as error:
        if follow:
            raise Unavailable(f"the log stream ended: {error}") from None
        raise


def parse_tail(tail: str) -> int:
    """Parse `all` or a number of lines. Raises InvalidArgument."""
    if tail == "all":
        return EVERYTHING
    if not tail.isascii() or not tail.isdecimal() or int(tail[:12]) > TAIL_MAX:
        raise invalid("--tail", tail, f"expected all, or 0 to {TAIL_MAX}")
    return int(tail)
