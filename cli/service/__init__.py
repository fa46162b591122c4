"""`pyswarm service`: one file per verb."""

import click

from cli.lazy import LazyGroup

VERBS = {
    "create": ("cli.service.create:create", "Create a service"),
    "inspect": ("cli.service.inspect:inspect", "Show services in full"),
    "logs": ("cli.service.logs:logs", "Show what a service or task wrote"),
    "ls": ("cli.service.ls:ls_", "List services"),
    "ps": ("cli.service.ps:ps", "List the tasks of services"),
    "rm": ("cli.service.rm:rm", "Remove services"),
    "scale": ("cli.service.scale:scale", "Change how many replicas services have"),
    "update": ("cli.service.update:update", "Change a service"),
}


@click.group(cls=LazyGroup, commands_at=VERBS, help="Manage services")
def service() -> None:
    pass
