"""`pyswarm net`: one file per verb."""

import click

from cli.lazy import LazyGroup

VERBS = {"trace": ("cli.net.trace:trace", "Trace the route between two tasks, hop by hop")}


@click.group(cls=LazyGroup, commands_at=VERBS, help="Diagnose networking between tasks")
def net() -> None:
    pass
