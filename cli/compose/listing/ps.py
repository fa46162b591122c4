"""`pyswarm compose ps`."""

from typing import TYPE_CHECKING

import click

from cli import flags
from cli.compose import project
from cli.compose.verb import ProjectVerb
from cli.render.listing import Layout
from pyswarm_core.errors import invalid

if TYPE_CHECKING:
    from cli.compose.members import Held
    from cli.render.listing import Row
    from pyswarm_core.clock import Instant

STATES = ("paused", "restarting", "removing", "running", "dead", "created", "exited")
_COLUMNS = ("Name", "Image", "Command", "Service", "RunningFor", "Status", "Ports")


def layout() -> Layout:
    """Compose's columns."""
    from cli.render import containers

    more = {"Name": "NAME", "Project": "PROJECT", "ExitCode": "EXIT CODE"}
    return Layout(headings={**containers.HEADINGS, **more}, columns=_COLUMNS)


@click.command(
    "ps",
    cls=ProjectVerb,
    help="List containers\n\nExample: pyswarm compose ps --all",
)
@click.option(
    "-a", "--all", "every", is_flag=True,
    help="Show all stopped containers (including those created by the run command)",
)  # fmt: skip
@click.option(
    "--filter", "filters", multiple=True, metavar="KEY=VALUE",
    help="Filter services by a property (supported filters: status)",
)  # fmt: skip
@flags.format_
@flags.no_trunc
@click.option(
    "--orphans/--no-orphans", default=True,
    help="Include orphaned services (not declared by project)",
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Only display IDs")
@click.option("--services", "only_services", is_flag=True, help="Display services")
@click.option(
    "--status", "states", multiple=True, type=flags.Choice(STATES), metavar="STATE",
    help=f"Filter services by status. Values: {', '.join(STATES)}",
)  # fmt: skip
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
def ps(
    *,
    every: bool,
    filters: tuple[str, ...],
    form: str,
    no_trunc: bool,
    orphans: bool,
    quiet: bool,
    only_services: bool,
    states: tuple[str, ...],
    services: tuple[str, ...],
) -> None:
    from cli.container import calls
    from cli.render import listing
    from cli.render.output import echo_lines
    from pyswarm_core.aio.system import SystemClock

    listing.show(layout(), [], form)  # refuses a wrong format
    shown = (*states, *map(_state, filters))
    opened = project.opened()
    found = opened.containers(services, every=every or bool(shown), oneoff=every)
    if not orphans:
        own = [member.name for member in opened.own]
        found = [one for one in found if one.service in own]
    found = [one for one in found if not shown or one.view.state.value in shown]
    if only_services:
        echo_lines(dict.fromkeys(one.service for one in found))
        return
    if quiet:
        echo_lines(one.view.id for one in found)
        return
    if form in ("", "table", "json") or ".Command" in form:
        views = calls.with_commands(opened.client, (one.view for one in found))
        found = [one._replace(view=view) for one, view in zip(found, views, strict=True)]
    rows = rows_of(opened.name, found, SystemClock().now(), truncate=not no_trunc)
    echo_lines(listing.show(layout(), rows, form))


def rows_of(name: str, found: "list[Held]", now: "Instant", *, truncate: bool) -> "list[Row]":
    """A row per container."""
    from cli.render import containers

    rows = containers.rows((one.view for one in found), now, truncate=truncate)
    return [
        {
            **row,
            "Name": one.name,
            "Names": one.name,
            "Service": one.service,
            "Project": name,
            "ExitCode": one.view.exit_code,
        }
        for one, row in zip(found, rows, strict=True)
    ]


def _state(text: str) -> str:
    key, _, value = text.partition("=")
    if key not in ("status",) or value not in STATES:
        raise invalid("--filter", text, f"expected status=STATE, of {', '.join(STATES)}")
    return value
