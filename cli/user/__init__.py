"""`pyswarm user`: one file per verb."""

import click

from cli.lazy import LazyGroup

VERBS = {
    "create": ("cli.user.create:create", "Create a user"),
    "inspect": ("cli.user.inspect:inspect", "Display detailed information on one or more users"),
    "ls": ("cli.user.ls:ls_", "List users"),
    "rm": ("cli.user.rm:rm", "Remove one or more users"),
    "token": ("cli.user.token:token", "Manage the tokens of users"),
    "update": ("cli.user.update:update", "Update a user"),
}


@click.group(cls=LazyGroup, commands_at=VERBS, help="Manage users")
def user() -> None:
    pass
