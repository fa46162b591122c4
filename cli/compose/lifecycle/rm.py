"""`pyswarm compose rm`."""

import click

from cli.compose import project
from cli.compose.verb import ProjectVerb
from cli.failures import Failures


@click.command(
    "rm",
    cls=ProjectVerb,
    help="Remove stopped service containers\n\n"
    "Their services go with them, until `up`. Volumes with a name stay.\n\n"
    "Example: pyswarm compose rm --force --stop web",
)
@click.option("-f", "--force", is_flag=True, help="Don't ask to confirm removal")
@click.option(
    "-s", "--stop", is_flag=True, help="Stop the containers, if required, before removing"
)
@click.option(
    "-v", "--volumes", is_flag=True,
    help="Remove any anonymous volumes attached to containers: they always go with their task",
)  # fmt: skip
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
def rm(*, force: bool, stop: bool, volumes: bool, services: tuple[str, ...]) -> None:
    del volumes
    opened = project.opened()
    from cli.compose.lifecycle import ending

    chosen = opened.chosen(services)
    if stop:
        ending.stopped(opened, chosen)
        opened = project.of(opened.client, opened.name, opened.loaded)
        chosen = opened.chosen(services)
    running = {one.service for one in opened.containers(services)}
    gone = [member for member in chosen if member.name not in running]
    if not gone:
        click.echo("No stopped containers", err=True)
        return
    names = ", ".join(member.name for member in gone)
    if not force and not click.confirm(f"Going to remove {names}\nAre you sure?"):
        return
    with Failures() as failures:
        ending.removed(opened, gone, failures)
