"""`pyswarm stop`."""

import click

from cli.lazy import Verb

TIMEOUT = click.option(
    "-t",
    "--timeout",
    "--time",
    metavar="SECONDS",
    help="Seconds to wait before killing the container (default its --stop-timeout)",
)
SIGNAL = click.option(
    "-s", "--signal", default="", metavar="SIGNAL", help="Signal to send to the container"
)


@click.command(
    cls=Verb,
    help="Stop one or more running containers; a service is stopped with all its tasks, a task is"
    " replaced as its restart policy says\n\nExample: pyswarm stop --timeout 3 db",
)
@SIGNAL
@TIMEOUT
@click.argument("containers", nargs=-1, required=True, metavar="CONTAINER...")
def stop(*, signal: str, timeout: str | None, containers: tuple[str, ...]) -> None:
    from cli.container.lifecycle import change, watching
    from cli.container.lifecycle.stopping import Stop

    change.each(containers, Stop.of(signal, timeout).request, watching.until_stopped)
