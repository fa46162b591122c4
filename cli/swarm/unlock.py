"""`pyswarm swarm unlock`."""

import sys
import time
from typing import TYPE_CHECKING

import click

from cli import session
from cli.errors import NotConverged
from cli.lazy import Verb
from cli.render import terminal
from pyswarm_core.errors import InvalidArgument, PyswarmError, Unavailable

if TYPE_CHECKING:
    from cli.client import Client

SERVING_TIMEOUT_S = 60.0
"""Time from the key to the first answer: the controller opens its store and is elected."""
_PAUSE_S = 0.1


@click.command(
    cls=Verb,
    help="Unlock this host's controller: reads the unlock key from standard input\n\n"
    "Example: pyswarm swarm unlock",
)
def unlock() -> None:
    client = session.connect()
    client.unlock(_read_key())
    with terminal.announced("the key is right: waiting until the controller serves"):
        _wait(client)


def _wait(client: "Client") -> None:
    """Return once the controller serves. Raises NotConverged after SERVING_TIMEOUT_S."""
    deadline = time.monotonic() + SERVING_TIMEOUT_S
    while True:
        try:
            client.info()
        except Unavailable as error:
            if time.monotonic() > deadline:
                raise NotConverged(
                    f"the controller is unlocked but does not serve yet: {error}. Its log has the"
                    " reason (`journalctl -u pyswarm-controller`, /run/pyswarm/controller.log)"
                ) from None
            time.sleep(_PAUSE_S)
        except PyswarmError:
            return  # it refuses this caller, so it serves
        else:
            return


def _read_key() -> str:
    """The key of the prompt, or the first line of standard input."""
    if sys.stdin.isatty():
        return str(click.prompt("Please enter unlock key", hide_input=True))
    try:
        return sys.stdin.readline().strip()
    except UnicodeDecodeError:
        raise InvalidArgument("the unlock key is not valid: it is no text") from None
