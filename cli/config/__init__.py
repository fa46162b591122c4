"""`pyswarm config`: its verbs are those of `cli/payload/`."""

import click

from cli.lazy import LazyGroup

VERBS = {
    "create": ("cli.payload.create:config", "Create a config from a file or STDIN as content"),
    "inspect": (
        "cli.payload.inspect:config",
        "Display detailed information on one or more configs",
    ),
    "ls": ("cli.payload.ls:config", "List configs"),
    "rm": ("cli.payload.rm:config", "Remove one or more configs"),
    "update": ("cli.payload.update:config", "Create the next version of a config"),
}


@click.group(cls=LazyGroup, commands_at=VERBS, help="Manage configs")
def config() -> None:
    pass
