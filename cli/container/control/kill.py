"""`pyswarm kill`."""

import click

from cli import session
from cli.failures import Failures
from cli.lazy import Verb
from pyswarm_core.validation import require
from pyswarm_core.validation.container import signal_problems


@click.command(
    cls=Verb,
    help="Kill one or more running containers\n\n"
    "The restart policy of a service decides what follows.\n\n"
    "Example: pyswarm kill --signal SIGHUP web.1",
)
@click.option(
    "-s",
    "--signal",
    "name",
    default="KILL",
    metavar="SIGNAL",
    help="Signal to send to the container (default KILL)",
)
@click.argument("containers", nargs=-1, required=True, metavar="CONTAINER...")
def kill(*, name: str, containers: tuple[str, ...]) -> None:
    require(list(signal_problems("--signal", name)))
    client = session.connect()
    with Failures() as failures:
        for ref in dict.fromkeys(containers):
            with failures.collected():
                client.signal_task(ref, name)
                click.echo(ref)
