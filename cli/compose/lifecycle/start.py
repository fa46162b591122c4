"""`pyswarm compose start`."""

import click

from cli.compose import project
from cli.compose.verb import ProjectVerb
from pyswarm_core.errors import Conflict, quoted


@click.command(
    "start",
    cls=ProjectVerb,
    help="Start services that were stopped\n\nExample: pyswarm compose start web",
)
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
def start(*, services: tuple[str, ...]) -> None:
    opened = project.opened()
    members = opened.chosen(services)
    there = [member.name for member in members]
    if missing := [name for name in services if name not in there]:
        names = " ".join(missing)
        raise Conflict(
            f"service {quoted(missing[0])} has no container to start:"
            f" `pyswarm compose up -d {names}` creates it"
        )
    from cli.compose.lifecycle import beginning

    beginning.started(opened, members)
