"""`pyswarm alias`."""

import click

from cli import flags
from cli.lazy import Verb

SCRIPTS = {
    "docker": 'docker() { command pyswarm "$@"; }',
    "docker-compose": 'docker-compose() { command pyswarm compose "$@"; }',
}
"""Functions of bash and zsh."""


@click.command(
    cls=Verb,
    help="Print a shell function with which `docker` or `docker-compose` calls pyswarm\n\n"
    "Example: pyswarm alias docker >> ~/.bashrc",
)
@click.argument("command", type=flags.Choice(list(SCRIPTS)))
def alias(*, command: str) -> None:
    click.echo(SCRIPTS[command])
