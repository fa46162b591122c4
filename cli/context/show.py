"""`pyswarm context show`."""

import click

from cli import session
from cli.context import store
from cli.context.model import DEFAULT, select
from cli.lazy import Verb


@click.command(
    cls=Verb, help="Print the name of the current context\n\nExample: pyswarm context show"
)
def show() -> None:
    click.echo(selected_name())


def selected_name() -> str:
    """The name of the selected context; `default` if a host is selected instead, as in Docker."""
    choice = select(session.given())
    return DEFAULT if choice.host else choice.name or store.current_name()
