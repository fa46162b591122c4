"""`pyswarm compose pause` and `unpause`."""

import click

from cli.compose import project
from cli.compose.verb import ProjectVerb
from cli.failures import Failures


@click.command(
    "pause",
    cls=ProjectVerb,
    help="Pause services\n\n"
    "Paused containers receive no connections, and their checks are not made.\n\n"
    "Example: pyswarm compose pause web",
)
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
def pause(*, services: tuple[str, ...]) -> None:
    _each(services, paused=True)


@click.command(
    "unpause", cls=ProjectVerb, help="Unpause services\n\nExample: pyswarm compose unpause web"
)
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
def unpause(*, services: tuple[str, ...]) -> None:
    _each(services, paused=False)


def _each(services: tuple[str, ...], *, paused: bool) -> None:
    opened = project.opened()
    from cli.container.control import calls
    from pyswarm_core.docker.containers.views import ContainerState

    wanted = ContainerState.RUNNING if paused else ContainerState.PAUSED
    with Failures() as failures:
        for one in opened.containers(services):
            if one.view.state is wanted:
                with failures.collected():
                    calls.pause(opened.client, one.view.id, paused=paused)
                    click.echo(one.name)
