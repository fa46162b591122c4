"""`pyswarm compose kill`."""

import click

from cli.compose import project
from cli.compose.verb import ProjectVerb
from cli.failures import Failures
from pyswarm_core.validation import require
from pyswarm_core.validation.container import signal_problems


@click.command(
    "kill",
    cls=ProjectVerb,
    help="Force stop service containers\n\n"
    "Killed services stay stopped. After another signal the restart policy decides what"
    " follows.\n\n"
    "Example: pyswarm compose kill --signal SIGHUP web",
)
@click.option(
    "--remove-orphans", is_flag=True,
    help="Remove containers for services not defined in the Compose file",
)  # fmt: skip
@click.option(
    "-s", "--signal", "signal", default="SIGKILL", metavar="SIGNAL",
    help="SIGNAL to send to the container (default SIGKILL)",
)  # fmt: skip
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
def kill(*, remove_orphans: bool, signal: str, services: tuple[str, ...]) -> None:
    require(list(signal_problems("--signal", signal)))
    opened = project.opened()
    from cli.compose.lifecycle import ending

    with Failures() as failures:
        ending.killed(opened, opened.chosen(services), signal, failures)
        if remove_orphans and opened.orphans:
            ending.removed(opened, opened.orphans, failures)
