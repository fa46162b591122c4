"""`pyswarm logs`: `service logs` in the form of `docker logs`."""

from typing import Any

import click
from msgspec.structs import replace

from cli import session
from cli.lazy import Verb
from cli.logs.flags import query_flags, query_of
from cli.logs.output import show
from cli.render.loglines import Form


@click.command(
    cls=Verb,
    help="Fetch the logs of a container, of a service or of a task\n\n"
    "Example: pyswarm logs --follow --tail 10 db",
)
@query_flags
@click.argument("container")
def logs(
    *, container: str, timestamps: bool, details: bool, no_log_prefix: bool, **of_query: Any
) -> None:
    query = replace(query_of(container, details=details, **of_query), container=True)
    form = Form(timestamps=timestamps, details=details, prefix=not no_log_prefix, task_ids=False)
    show(session.connect(), query, form)
