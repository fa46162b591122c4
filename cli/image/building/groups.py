"""`pyswarm builder` and `pyswarm buildx`: the names of Docker's commands about builds."""

import click

from cli.lazy import LazyGroup

_BUILDER = {
    "build": ("cli.image.build:build", "Build an image from a Dockerfile"),
    "prune": ("cli.image.building.prune:prune", "Remove build cache of this machine"),
}


@click.group(
    cls=LazyGroup,
    commands_at=_BUILDER,
    help="Manage builds\n\nExample: pyswarm builder prune --force",
)
def builder() -> None:
    pass


@click.group(
    cls=LazyGroup,
    commands_at=_BUILDER,
    help="Build images, with Docker's newer name of it\n\nExample: pyswarm buildx build -t app .",
)
def buildx() -> None:
    pass
