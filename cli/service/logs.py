"""`pyswarm service logs`."""

from typing import Any

import click

from cli import flags, session
from cli.lazy import Verb
from cli.logs.flags import query_flags, query_of
from cli.logs.output import show
from cli.render.loglines import Form


@click.command(
    cls=Verb,
    help="Fetch the logs of a service or task\n\n"
    "Example: pyswarm service logs --follow --tail 10 web",
)
@query_flags
@click.option("--raw", is_flag=True, help="Do not neatly format logs")
@click.option("--no-task-ids", is_flag=True, help="Do not include task IDs in output")
@flags.no_resolve
@flags.no_trunc
@click.argument("ref", metavar="SERVICE|TASK")
def logs(
    *,
    ref: str,
    timestamps: bool,
    details: bool,
    no_log_prefix: bool,
    raw: bool,
    no_task_ids: bool,
    no_resolve: bool,
    no_trunc: bool,
    **of_query: Any,
) -> None:
    query = query_of(ref, details=details, **of_query)
    form = Form(
        timestamps=timestamps,
        details=details,
        prefix=not (raw or no_log_prefix),
        task_ids=not no_task_ids,
        resolve=not no_resolve,
        truncate=not no_trunc,
    )
    show(session.connect(), query, form)
