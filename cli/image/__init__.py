"""`pyswarm image`: one file per verb."""

import click

from cli.lazy import LazyGroup

VERBS = {
    "build": ("cli.image.build:build", "Build an image and push it where nodes pull from"),
    "ls": ("cli.image.ls:ls_", "List the images that nodes have"),
    "pull": ("cli.image.pull:pull", "Pull an image on nodes"),
    "rm": ("cli.image.rm:rm", "Remove images from all nodes"),
}


@click.group(cls=LazyGroup, commands_at=VERBS, help="Manage images")
def image() -> None:
    pass
