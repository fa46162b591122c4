"""`pyswarm task signal`."""

import click

from cli import session
from cli.failures import for_each
from cli.lazy import Verb
from pyswarm_core.validation import require
from pyswarm_core.validation.container import signal_problems


@click.command(
    cls=Verb,
    help="Send a signal to the main process of one or more tasks\n\n"
    "Example: pyswarm task signal --signal SIGHUP web.1",
)
@click.option("-s", "--signal", "name", required=True, metavar="SIGNAL", help="Signal to send")
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
def signal(*, name: str, tasks: tuple[str, ...]) -> None:
    require(list(signal_problems("--signal", name)))
    client = session.connect()
    for_each(dict.fromkeys(tasks), lambda ref: client.signal_task(ref, name))
