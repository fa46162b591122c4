"""`pyswarm image`: one file per verb."""

import click

from cli.lazy import LazyGroup

VERBS = {
    "build": ("cli.image.build:build", "Build an image and push it to the fleet's registry"),
    "ls": ("cli.image.ls:ls_", "List the images on nodes"),
    "pull": ("cli.image.pull:pull", "Download an image to nodes"),
    "rm": ("cli.image.rm:rm", "Remove one or more images from all nodes"),
}


@click.group(cls=LazyGroup, commands_at=VERBS, help="Manage images")
def image() -> None:
    pass
