"""`pyswarm volume`: one file per verb."""

import click

from cli.lazy import LazyGroup

VERBS = {
    "backup": ("cli.volume.backup:backup", "Write the files of a volume to a tar archive"),
    "clone": ("cli.volume.refused:clone", "Not supported: what to use"),
    "cp": ("cli.volume.cp:cp", "Copy files/folders between a volume and the local filesystem"),
    "create": ("cli.volume.create:create", "Create a volume"),
    "forget": ("cli.volume.forget:forget", "Give up the copy of a volume on a lost node"),
    "inspect": (
        "cli.volume.inspect:inspect",
        "Display detailed information on one or more volumes",
    ),
    "ls": ("cli.volume.ls:ls_", "List volumes"),
    "move": ("cli.volume.move:move", "Move one or more volumes to another node"),
    "prune": ("cli.volume.prune:prune", "Remove unused anonymous volumes"),
    "restore": (
        "cli.volume.restore:restore",
        "Replace the files of a volume with those of a tar archive",
    ),
    "rm": ("cli.volume.rm:rm", "Remove one or more volumes"),
    "snapshot": ("cli.volume.refused:snapshot", "Not supported: what to use"),
}


@click.group(cls=LazyGroup, commands_at=VERBS, help="Manage volumes")
def volume() -> None:
    pass
