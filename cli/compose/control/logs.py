"""`pyswarm compose logs`."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from cli import flags as common
from cli.compose import flags, project
from cli.compose.verb import ProjectVerb
from cli.logs.flags import FOLLOW, SINCE, TAIL, UNTIL, query_of
from cli.render.loglines import Form

if TYPE_CHECKING:
    from cli.compose.project import Project
    from cli.render.loglines import Renderer
    from pyswarm_core.views import LogsQuery

INDEX_MAX = 100_000
INDEX = click.option(
    "--index", type=common.Number(0, INDEX_MAX), default=0, metavar="NUMBER",
    help="Index of the container if service has multiple replicas",
)  # fmt: skip


@click.command(
    "logs",
    cls=ProjectVerb,
    help="View output from containers\n\nExample: pyswarm compose logs --follow --tail 10 web",
)
@FOLLOW
@INDEX
@click.option("--no-color", is_flag=True, help="Produce monochrome output")
@click.option("--no-log-prefix", is_flag=True, help="Don't print prefix in logs")
@SINCE
@TAIL
@click.option("-t", "--timestamps", is_flag=True, help="Show timestamps")
@UNTIL
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
def logs(
    *,
    index: int,
    no_color: bool,
    no_log_prefix: bool,
    timestamps: bool,
    services: tuple[str, ...],
    **of_query: Any,
) -> None:
    query = query_of("", grep=None, previous=False, details=False, **of_query)
    opened = project.opened()
    refs = _refs(opened, services, index)
    form = Form(timestamps=timestamps, prefix=not no_log_prefix, time_first=False)
    shown = renderer(opened, form, services, is_plain=no_color)
    print_logs(opened, query, refs, shown)


def print_logs(
    opened: "Project", query: "LogsQuery", refs: Iterable[str], shown: "Renderer"
) -> None:
    """Print the lines of these services and containers."""
    from msgspec.structs import replace

    from cli.logs import output, several

    def warn(text: str) -> None:
        click.echo(f"warning: {text}", err=True)

    queries = [replace(query, ref=ref, container=True) for ref in refs]
    output.print_parts(several.parts(opened.client, queries, warn), shown)


def renderer(
    opened: "Project", form: Form, services: tuple[str, ...], *, is_plain: bool
) -> "Renderer":
    """Renders lines of these services (empty: all) as Compose does, with a colour per service."""
    from cli.compose.control.prefixes import Prefixes
    from cli.render.loglines import Renderer

    names = {member.service.spec.name: member.name for member in opened.members}
    naming = Prefixes(names, opened.containers(services, every=True) if form.prefix else ())
    return Renderer(form, colours(is_plain=is_plain), naming)


def colours(*, is_plain: bool) -> tuple[bool, bool]:
    """Whether lines of standard output and error have colours, as --ansi and --no-color say."""
    from cli.logs.output import has_colours

    ansi = flags.of_group("ansi")
    if is_plain or ansi == "never":
        return False, False
    return (True, True) if ansi == "always" else (has_colours(sys.stdout), has_colours(sys.stderr))


def _refs(opened: "Project", services: tuple[str, ...], index: int) -> list[str]:
    """The services to read; with an index the one container."""
    if not index:
        return [member.service.id for member in opened.chosen(services, orphans=True)]
    names = services or tuple(member.name for member in opened.members)
    return [one.view.id for one in opened.containers(names, every=True) if one.number == index]
