"""`pyswarm swarm unlock`."""

import sys

import click

from cli import session
from cli.lazy import Verb
from pyswarm_core.errors import InvalidArgument


@click.command(
    cls=Verb,
    help="Unlock this host's controller: reads the unlock key from standard input\n\n"
    "Example: pyswarm swarm unlock",
)
def unlock() -> None:
    client = session.connect()
    client.unlock(_read_key())


def _read_key() -> str:
    """The key of the prompt, or the first line of standard input."""
    if sys.stdin.isatty():
        return str(click.prompt("Please enter unlock key", hide_input=True))
    try:
        return sys.stdin.readline().strip()
    except UnicodeDecodeError:
        raise InvalidArgument("the unlock key is not valid: it is no text") from None
