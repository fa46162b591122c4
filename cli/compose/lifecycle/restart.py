"""`pyswarm compose restart`."""

import click

from cli.compose import project
from cli.compose.lifecycle.stop import TIMEOUT
from cli.compose.verb import ProjectVerb


@click.command(
    "restart",
    cls=ProjectVerb,
    help="Restart service containers\n\n"
    "Services whose depends_on says restart: true follow. The files do not count: `up` applies"
    " them.\n\n"
    "Example: pyswarm compose restart web",
)
@click.option("--no-deps", is_flag=True, help="Don't restart dependent services")
@TIMEOUT
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
def restart(*, no_deps: bool, timeout: str | None, services: tuple[str, ...]) -> None:
    from cli.container.lifecycle.stopping import Stop

    Stop.of("", timeout)  # refuses a value that is not valid
    opened = project.opened()
    from cli.compose.lifecycle import beginning

    beginning.restarted_all(opened, opened.chosen(services), timeout, deps=not no_deps)
