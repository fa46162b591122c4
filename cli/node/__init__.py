"""`pyswarm node`: one file per verb."""

import click

from cli.lazy import LazyGroup

VERBS = {
    "inspect": ("cli.node.inspect:inspect", "Show nodes in full"),
    "ls": ("cli.node.ls:ls_", "List nodes"),
    "ps": ("cli.node.ps:ps", "List the tasks of nodes"),
    "rm": ("cli.node.rm:rm", "Remove nodes that left"),
    "update": ("cli.node.update:update", "Change a node's availability and labels"),
}


@click.group(cls=LazyGroup, commands_at=VERBS, help="Manage nodes")
def node() -> None:
    pass
