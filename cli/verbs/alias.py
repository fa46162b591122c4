"""`pyswarm alias`."""

import click

from cli import flags
from cli.lazy import Verb

SCRIPT = """docker() { command pyswarm "$@"; }
"""


@click.command(
    cls=Verb,
    help="Print a shell function with which `docker` calls pyswarm\n\n"
    "Example: pyswarm alias docker >> ~/.bashrc",
)
@click.argument("command", type=flags.Choice(["docker"]))
def alias(*, command: str) -> None:
    del command
    click.echo(SCRIPT, nl=False)
