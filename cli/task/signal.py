"""`pyswarm task signal`."""

import click

from cli import session
from cli.failures import Failures
from cli.lazy import Verb
from pyswarm_core.errors import invalid
from pyswarm_core.validation.container import is_signal


@click.command(
    cls=Verb,
    help="Send a signal to the main process of one or more tasks\n\n"
    "Example: pyswarm task signal --signal SIGHUP web.1",
)
@click.option("-s", "--signal", "name", required=True, metavar="SIGNAL", help="Signal to send")
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
def signal(*, name: str, tasks: tuple[str, ...]) -> None:
    if not is_signal(name):
        raise invalid("--signal", name, "expected a signal such as SIGHUP, or its number")
    client = session.connect()
    with Failures() as failures:
        for ref in dict.fromkeys(tasks):
            with failures.collected():
                client.signal_task(ref, name)
                click.echo(ref)
