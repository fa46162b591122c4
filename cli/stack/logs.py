"""`pyswarm stack logs`."""

import sys
from typing import Any

import click
from msgspec.structs import replace

from cli import flags, session
from cli.lazy import Verb
from cli.logs.flags import query_flags, query_of
from cli.render.loglines import Form, Renderer
from pyswarm_core.errors import NotFound, similar
from pyswarm_core.views import ServiceSummary


@click.command(
    cls=Verb,
    help="Fetch the logs of the services in the stack\n\n"
    "Example: pyswarm stack logs --follow --tail 10 shop web",
)
@query_flags
@flags.no_resolve
@flags.no_trunc
@click.argument("stack", metavar="STACK")
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
def logs(
    *,
    stack: str,
    services: tuple[str, ...],
    timestamps: bool,
    details: bool,
    no_log_prefix: bool,
    no_resolve: bool,
    no_trunc: bool,
    **of_query: Any,
) -> None:
    from cli.logs import output, several
    from cli.stack.calls import services_of

    client = session.connect()
    found = chosen(services_of(client, stack), stack, services)
    query = query_of("", details=details, **of_query)
    queries = [replace(query, ref=one.service.id) for one in found]
    form = Form(
        timestamps=timestamps,
        details=details,
        prefix=not no_log_prefix,
        resolve=not no_resolve,
        truncate=not no_trunc,
    )
    colours = output.has_colours(sys.stdout), output.has_colours(sys.stderr)

    def warn(text: str) -> None:
        click.echo(f"warning: {text}", err=True)

    output.print_parts(several.parts(client, queries, warn), Renderer(form, colours))


def chosen(found: list[ServiceSummary], stack: str, names: tuple[str, ...]) -> list[ServiceSummary]:
    """The services of these names, in full or as the file has them; without names all.

    Raises NotFound.
    """
    by_name = {one.service.spec.name: one for one in found}
    wanted = []
    for name in names:
        full = name if name in by_name else f"{stack}_{name}"
        if full not in by_name:
            known = similar(full, by_name)
            raise NotFound(f"stack {stack} has no service {name}{known}")
        wanted.append(by_name[full])
    return wanted or found
