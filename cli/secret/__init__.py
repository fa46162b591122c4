"""`pyswarm secret`: its verbs are those of `cli/payload/`."""

import click

from cli.lazy import LazyGroup

VERBS = {
    "create": ("cli.payload.create:secret", "Create a secret from a file or STDIN as content"),
    "inspect": (
        "cli.payload.inspect:secret",
        "Display detailed information on one or more secrets",
    ),
    "ls": ("cli.payload.ls:secret", "List secrets"),
    "rm": ("cli.payload.rm:secret", "Remove one or more secrets"),
    "update": ("cli.payload.update:secret", "Create the next version of a secret"),
}


@click.group(cls=LazyGroup, commands_at=VERBS, help="Manage secrets")
def secret() -> None:
    pass
