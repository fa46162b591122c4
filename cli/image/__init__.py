"""`pyswarm image`: one file per verb."""

import click

from cli.lazy import LazyGroup

VERBS = {
    "build": ("cli.image.build:build", "Build an image from a Dockerfile"),
    "history": ("cli.image.history:history", "Show the history of an image"),
    "import": (
        "cli.image.transfer.import_:import_",
        "Import the contents from a tarball to create a filesystem image",
    ),
    "inspect": ("cli.image.inspect:inspect", "Display detailed information on one or more images"),
    "load": ("cli.image.transfer.load:load", "Load images from a tar archive or STDIN"),
    "ls": ("cli.image.ls:ls_", "List images"),
    "prune": ("cli.image.prune:prune", "Remove unused images from all nodes"),
    "pull": ("cli.image.pull:pull", "Download an image to nodes"),
    "push": ("cli.image.transfer.push:push", "Upload an image to a registry"),
    "rm": ("cli.image.rm:rm", "Remove one or more images of the fleet"),
    "save": ("cli.image.transfer.save:save", "Save one or more images to a tar archive"),
    "search": ("cli.image.transfer.search:search", "Search a registry for images"),
    "tag": ("cli.image.transfer.tag:tag", "Create a tag that refers to another image"),
}


@click.group(
    cls=LazyGroup,
    commands_at=VERBS,
    help="Manage images of the nodes and of the fleet's registry\n\n"
    "Example: pyswarm image ls --filter reference='web*'",
)
def image() -> None:
    pass
