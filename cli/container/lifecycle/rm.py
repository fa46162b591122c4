"""`pyswarm rm`."""

from functools import partial

import click

from cli.lazy import Verb


@click.command(
    cls=Verb,
    help="Remove one or more containers and their files; with --force also services, and a task"
    " is replaced\n\nExample: pyswarm rm --force db",
)
@click.option(
    "-f", "--force", is_flag=True, help="Force the removal of a running container (stops it)"
)
@click.option(
    "-v", "--volumes", is_flag=True,
    help="Remove anonymous volumes associated with the container",
)  # fmt: skip
@click.option("-l", "--link", is_flag=True, help="Remove the specified link: there are none")
@click.argument("containers", nargs=-1, required=True, metavar="CONTAINER...")
def rm(*, force: bool, volumes: bool, link: bool, containers: tuple[str, ...]) -> None:
    from cli.container.lifecycle import change, removing, watching
    from pyswarm_core.errors import InvalidArgument

    if link:
        raise InvalidArgument("--link is not supported: containers on one network find each other")
    request = partial(removing.request, force=force, volumes=volumes)
    change.each(containers, request, watching.until_gone, may_be_missing=force)
