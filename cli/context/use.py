"""`pyswarm context use`."""

import os

import click

from cli.context import store
from cli.lazy import Verb


@click.command(cls=Verb, help="Set the current context\n\nExample: pyswarm context use production")
@click.argument("name", metavar="CONTEXT")
def use(*, name: str) -> None:
    store.load(name)
    store.use(name)
    click.echo(name)
    click.echo(f'Current context is now "{name}"', err=True)
    for variable in ("PYSWARM_HOST", "PYSWARM_CONTEXT"):
        if os.environ.get(variable):
            click.echo(
                f"warning: {variable} overrides the current context: unset it, or use --context",
                err=True,
            )
