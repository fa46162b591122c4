"""`pyswarm task`: one file per verb."""

import click

from cli.lazy import LazyGroup

VERBS = {"inspect": ("cli.task.inspect:inspect", "Show tasks in full")}


@click.group(cls=LazyGroup, commands_at=VERBS, help="Manage tasks")
def task() -> None:
    pass
