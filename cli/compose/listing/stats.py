"""`pyswarm compose stats`."""

from typing import TYPE_CHECKING

import click

from cli import flags
from cli.compose import project
from cli.compose.verb import ProjectVerb

if TYPE_CHECKING:
    from collections.abc import Callable

    from cli.compose.project import Project
    from cli.render.listing import Row


@click.command(
    "stats",
    cls=ProjectVerb,
    help="Display a live stream of container(s) resource usage statistics\n\n"
    "Example: pyswarm compose stats --no-stream web",
)
@click.option(
    "-a", "--all", "every", is_flag=True, help="Show all containers (default shows just running)"
)
@flags.format_
@click.option(
    "--no-stream", is_flag=True, help="Disable streaming stats and only pull the first result"
)
@flags.no_trunc
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
def stats(
    *, every: bool, form: str, no_stream: bool, no_trunc: bool, services: tuple[str, ...]
) -> None:
    from cli.container.stats import Style, show
    from cli.render import listing, usage

    heading = listing.show(usage.LAYOUT, [], form)  # refuses a wrong format
    opened = project.opened()
    refs = [member.service.id for member in opened.chosen(services, orphans=True)]
    if not refs:
        for line in heading:
            click.echo(line)
        return
    style = Style(form=form, truncate=not no_trunc, every=every, shown=_named(opened))
    show(opened.client, refs, style, no_stream=no_stream)


def _named(opened: "Project") -> "Callable[[Row], Row]":
    """Gives rows Compose's names of containers."""
    from cli.compose.names import container_name
    from pyswarm_core.ids import short

    services = {one.service.spec.name: one.name for one in opened.members}
    known = {short(one.view.id): one.name for one in opened.containers(every=True)}

    def named(row: "Row") -> "Row":
        full, _, place = str(row["Name"]).rpartition(".")
        if (name := known.get(short(str(row["ID"])))) is not None:
            return {**row, "Name": name}
        if full not in services or not place.isdecimal():
            return row
        return {**row, "Name": container_name(opened.name, services[full], int(place))}

    return named
