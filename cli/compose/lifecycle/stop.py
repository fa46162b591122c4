"""`pyswarm compose stop`."""

import click

from cli.compose import project
from cli.compose.verb import ProjectVerb

TIMEOUT = click.option(
    "-t", "--timeout", metavar="SECONDS",
    help="Specify a shutdown timeout in seconds (default stop_grace_period of each service)",
)  # fmt: skip


@click.command(
    "stop",
    cls=ProjectVerb,
    help="Stop services: dependents before what they depend on\n\n"
    "Example: pyswarm compose stop --timeout 3 web",
)
@TIMEOUT
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
def stop(*, timeout: str | None, services: tuple[str, ...]) -> None:
    from cli.container.lifecycle.stopping import Stop

    Stop.of("", timeout)  # refuses a value that is not valid
    opened = project.opened()
    from cli.compose.lifecycle import ending

    ending.stopped(opened, opened.chosen(services), timeout)
