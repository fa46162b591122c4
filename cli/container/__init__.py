"""`pyswarm container`: one file per verb; most are commands of `pyswarm` as well."""

import click

from cli.lazy import LazyGroup

VERBS = {
    "attach": ("cli.container.attach:attach", "Attach to the streams of a running container"),
    "exec": ("cli.container.exec:exec_", "Execute a command in a running container"),
    "stats": (
        "cli.container.stats:stats",
        "Display a live stream of container(s) resource usage statistics",
    ),
}


@click.group(cls=LazyGroup, commands_at=VERBS, help="Manage containers")
def container() -> None:
    pass
