"""`pyswarm task`: one file per verb."""

import click

from cli.lazy import LazyGroup

VERBS = {
    "inspect": ("cli.task.inspect:inspect", "Display detailed information on one or more tasks"),
    "restart": ("cli.task.restart:restart", "Replace one or more tasks"),
    "signal": ("cli.task.signal:signal", "Send a signal to the main process of one or more tasks"),
    "stop": ("cli.task.stop:stop", "Stop the processes of one or more tasks"),
}


@click.group(cls=LazyGroup, commands_at=VERBS, help="Manage tasks")
def task() -> None:
    pass
