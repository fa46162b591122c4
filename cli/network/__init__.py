"""`pyswarm network`: one file per verb."""

import click

from cli.lazy import LazyGroup

VERBS = {
    "create": ("cli.network.create:create", "Create a network"),
    "inspect": ("cli.network.inspect:inspect", "Show networks in full"),
    "ls": ("cli.network.ls:ls_", "List networks"),
    "rm": ("cli.network.rm:rm", "Remove networks"),
}


@click.group(cls=LazyGroup, commands_at=VERBS, help="Manage networks")
def network() -> None:
    pass
