"""`pyswarm container`: one file per verb."""

import click

from cli.lazy import LazyGroup

VERBS = {
    "stats": (
        "cli.container.stats:stats",
        "Display a live stream of container(s) resource usage statistics",
    ),
}


@click.group(cls=LazyGroup, commands_at=VERBS, help="Manage containers")
def container() -> None:
    pass
