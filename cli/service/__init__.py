"""`pyswarm service`: one file per verb."""

import click

from cli.lazy import LazyGroup

VERBS = {
    "create": ("cli.service.create:create", "Create a new service"),
    "history": ("cli.service.history:history", "Show the earlier specs of a service"),
    "inspect": (
        "cli.service.inspect:inspect",
        "Display detailed information on one or more services",
    ),
    "logs": ("cli.service.logs:logs", "Fetch the logs of a service or task"),
    "ls": ("cli.service.ls:ls_", "List services"),
    "ps": ("cli.service.ps:ps", "List the tasks of one or more services"),
    "restart": ("cli.service.restart:restart", "Replace the tasks of one or more services"),
    "rm": ("cli.service.rm:rm", "Remove one or more services"),
    "rollback": ("cli.service.rollback:rollback", "Revert changes to a service's configuration"),
    "scale": ("cli.service.scale:scale", "Scale one or multiple replicated services"),
    "start": ("cli.service.start:start", "Start one or more stopped services"),
    "stop": ("cli.service.stop:stop", "Stop one or more services"),
    "update": ("cli.service.update:update", "Update a service"),
}


@click.group(cls=LazyGroup, commands_at=VERBS, help="Manage services")
def service() -> None:
    pass
