"""`pyswarm compose volumes`."""

from typing import TYPE_CHECKING

import click

from cli import flags
from cli.compose import project
from cli.compose.names import of_project
from cli.compose.verb import ProjectVerb

if TYPE_CHECKING:
    from cli.compose.project import Project
    from cli.render.listing import Row
    from pyswarm_core.volumes.volume import Volume


@click.command(
    "volumes", cls=ProjectVerb, help="List volumes\n\nExample: pyswarm compose volumes web"
)
@flags.format_
@click.option("-q", "--quiet", is_flag=True, help="Only display volume names")
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
def volumes(*, form: str, quiet: bool, services: tuple[str, ...]) -> None:
    from msgspec.structs import replace

    from cli.render import listing
    from cli.render.output import echo_lines
    from cli.volume.hosts import names_of, users_of
    from cli.volume.ls import LAYOUT, row
    from pyswarm_core.aio.system import SystemClock

    layout = replace(LAYOUT, columns=("Driver", "Name"), quiet="Name")
    listing.show(layout, [], form)  # refuses a wrong format
    opened = project.opened()
    found = volumes_of(opened, services)
    if quiet or not found:
        named: list[Row] = [{"Name": one.spec.name} for one in found]
        echo_lines(listing.show(layout, named, form, quiet=quiet))
        return
    name, users = names_of(opened.client, found), users_of(opened.client)
    now = SystemClock().now()
    rows = [row(one, [name(copy) for copy in one.copies], users(one), now) for one in found]
    echo_lines(listing.show(layout, rows, form))


def volumes_of(opened: "Project", services: tuple[str, ...] = ()) -> "list[Volume]":
    """The volumes of a project, or those that these services mount."""
    from pyswarm_core.kinds import VOLUME
    from pyswarm_core.natural import natural

    members = opened.chosen(services)
    found = opened.client.objects(VOLUME, (of_project(opened.name),))
    mounted = {name for one in members for name in one.service.spec.task_template.volumes}
    kept = [one for one in found if not services or one.spec.name in mounted]
    return sorted(kept, key=lambda one: natural(one.spec.name))
