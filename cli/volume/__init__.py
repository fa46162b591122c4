"""`pyswarm volume`: one file per verb."""

import click

from cli.lazy import LazyGroup

VERBS = {
    "create": ("cli.volume.create:create", "Create a volume"),
    "inspect": (
        "cli.volume.inspect:inspect",
        "Display detailed information on one or more volumes",
    ),
    "ls": ("cli.volume.ls:ls_", "List volumes"),
    "prune": ("cli.volume.prune:prune", "Remove unused anonymous volumes"),
    "rm": ("cli.volume.rm:rm", "Remove one or more volumes"),
}


@click.group(cls=LazyGroup, commands_at=VERBS, help="Manage volumes")
def volume() -> None:
    pass
