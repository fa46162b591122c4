"""`pyswarm task stop`."""

import click

from cli import session
from cli.failures import for_each
from cli.lazy import Verb


@click.command(
    cls=Verb,
    help="Stop the processes of one or more tasks; their restart policies decide what follows\n\n"
    "Example: pyswarm task stop web.1",
)
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
def stop(*, tasks: tuple[str, ...]) -> None:
    client = session.connect()
    for_each(dict.fromkeys(tasks), lambda ref: client.signal_task(ref, stop=True))
