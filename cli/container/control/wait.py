"""`pyswarm wait`."""

import time

import click

from cli import session
from cli.failures import Failures
from cli.lazy import Verb
from pyswarm_core.errors import Exhausted, Unavailable

RETRY_S = 1.0
GIVE_UP_S = 60.0
"""A controller that does not answer for this long ends the wait."""


@click.command(
    cls=Verb,
    help="Block until one or more containers stop, then print their exit codes\n\n"
    "Example: pyswarm wait migration.1",
)
@click.argument("containers", nargs=-1, required=True, metavar="CONTAINER...")
def wait(*, containers: tuple[str, ...]) -> None:
    with Failures() as failures:
        for ref in containers:
            with failures.collected():
                click.echo(_exit_code(ref))


def _exit_code(ref: str) -> int:
    """A restart of the controller, or another leader, does not end the wait."""
    client = session.connect()
    from cli.container.control import calls

    was_connected, give_up_at = False, 0.0
    while True:
        began = time.monotonic()
        try:
            return calls.wait(client, ref).exit_code
        except Exhausted:
            raise
        except Unavailable:
            now = time.monotonic()
            if now - began > RETRY_S:
                was_connected, give_up_at = True, now + GIVE_UP_S
            if not was_connected or now > give_up_at:
                raise
            time.sleep(RETRY_S)
