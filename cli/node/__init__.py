"""`pyswarm node`: one file per verb."""

import click

from cli.lazy import LazyGroup

VERBS = {
    "demote": ("cli.node.promote:demote", "Not supported: a manager runs a controller"),
    "inspect": ("cli.node.inspect:inspect", "Display detailed information on one or more nodes"),
    "ls": ("cli.node.ls:ls_", "List nodes in the fleet"),
    "promote": ("cli.node.promote:promote", "Not supported: a manager runs a controller"),
    "ps": ("cli.node.ps:ps", "List tasks running on one or more nodes"),
    "rm": ("cli.node.rm:rm", "Remove one or more nodes from the fleet"),
    "update": ("cli.node.update:update", "Update a node"),
}


@click.group(cls=LazyGroup, commands_at=VERBS, help="Manage nodes")
def node() -> None:
    pass
