"""`pyswarm task stop`."""

import click

from cli import session
from cli.failures import Failures
from cli.lazy import Verb


@click.command(
    cls=Verb,
    help="Stop the processes of one or more tasks; their restart policies decide what follows\n\n"
    "Example: pyswarm task stop web.1",
)
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
def stop(*, tasks: tuple[str, ...]) -> None:
    client = session.connect()
    with Failures() as failures:
        for ref in dict.fromkeys(tasks):
            with failures.collected():
                client.signal_task(ref, stop=True)
                click.echo(ref)
