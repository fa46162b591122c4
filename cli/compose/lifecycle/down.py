"""`pyswarm compose down`."""

import click

from cli.compose import project
from cli.compose.lifecycle.stop import TIMEOUT
from cli.compose.verb import ProjectVerb
from cli.flags import Choice


@click.command(
    "down",
    cls=ProjectVerb,
    help="Stop and remove services and networks of a project; volumes stay, with their data, unless"
    " --volumes is given\n\n"
    "Example: pyswarm compose down --volumes",
)
@click.option(
    "--remove-orphans", is_flag=True, envvar="COMPOSE_REMOVE_ORPHANS",
    help="Remove services not defined in the Compose file",
)  # fmt: skip
@click.option(
    "--rmi", type=Choice(["local", "all"]), metavar="WHICH",
    help='Remove images used by services. "local" remove only images that don\'t have a custom tag'
    ' ("local"|"all")',
)  # fmt: skip
@TIMEOUT
@click.option(
    "-v", "--volumes", is_flag=True,
    help='Remove named volumes declared in the "volumes" section of the Compose file',
)  # fmt: skip
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
def down(
    *,
    remove_orphans: bool,
    rmi: str | None,
    timeout: str | None,
    volumes: bool,
    services: tuple[str, ...],
) -> None:
    from cli.container.lifecycle.stopping import Stop

    Stop.of("", timeout)  # refuses a value that is not valid
    opened = project.opened()
    from cli.compose.lifecycle import removal

    asked = removal.Down(
        services=services,
        volumes=volumes,
        orphans=remove_orphans,
        images=rmi or "",
        timeout=timeout,
    )
    removal.down(opened, asked)
