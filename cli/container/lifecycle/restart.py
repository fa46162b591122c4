"""`pyswarm restart`."""

import click

from cli.container.lifecycle.stop import SIGNAL, TIMEOUT
from cli.lazy import Verb


@click.command(
    cls=Verb,
    help="Restart one or more containers, with the files they had; the tasks of a service are"
    " replaced as in an update\n\nExample: pyswarm restart db",
)
@SIGNAL
@TIMEOUT
@click.argument("containers", nargs=-1, required=True, metavar="CONTAINER...")
def restart(*, signal: str, timeout: str | None, containers: tuple[str, ...]) -> None:
    from cli.container.lifecycle import change, starting
    from cli.container.lifecycle.restarting import Restart
    from cli.container.lifecycle.stopping import Stop

    change.each(containers, Restart(Stop.of(signal, timeout)).request, starting.wait)
