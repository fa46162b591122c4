"""`pyswarm wait`."""

import click

from cli import session
from cli.failures import Failures
from cli.lazy import Verb


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
    from cli.streams.resuming import resumed

    return next(resumed(client, lambda: calls.wait(client, ref))).exit_code
