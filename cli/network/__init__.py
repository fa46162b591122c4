"""`pyswarm network`: one file per verb."""

import click

from cli.lazy import LazyGroup

VERBS = {
    "connect": ("cli.network.connect:connect", "Connect a container to a network"),
    "create": ("cli.network.create:create", "Create a network"),
    "disconnect": ("cli.network.disconnect:disconnect", "Disconnect a container from a network"),
    "inspect": (
        "cli.network.inspect:inspect",
        "Display detailed information on one or more networks",
    ),
    "ls": ("cli.network.ls:ls_", "List networks"),
    "prune": ("cli.network.prune:prune", "Remove all unused networks"),
    "rm": ("cli.network.rm:rm", "Remove one or more networks"),
}


@click.group(cls=LazyGroup, commands_at=VERBS, help="Manage networks")
def network() -> None:
    pass
