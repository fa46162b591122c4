"""`pyswarm stack`: one file per verb."""

import click

from cli.lazy import LazyGroup

VERBS = {
    "deploy": ("cli.stack.deploy:deploy", "Deploy a new stack or update an existing stack"),
    "ls": ("cli.stack.ls:ls_", "List stacks"),
    "ps": ("cli.stack.ps:ps", "List the tasks in the stack"),
    "services": ("cli.stack.services:services", "List the services in the stack"),
    "logs": ("cli.stack.logs:logs", "Fetch the logs of the services in the stack"),
    "rm": ("cli.stack.rm:rm", "Remove one or more stacks"),
    "rollback": ("cli.stack.rollback:rollback", "Return to an earlier version of a stack"),
    "history": ("cli.stack.history:history", "Show what changed from version to version"),
    "config": (
        "cli.stack.config:config",
        "Print the final config file, after merges and interpolations",
    ),
}


ALIASES = {"up": "deploy", "down": "rm"}
"""Docker's second names."""


@click.group(cls=LazyGroup, commands_at=VERBS, aliases=ALIASES, help="Manage stacks")
def stack() -> None:
    pass
