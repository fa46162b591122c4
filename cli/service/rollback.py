"""`pyswarm service rollback`."""

import click

from cli import converge, flags, session
from cli.converge import Watched
from cli.lazy import Verb
from cli.service.change import rolled_back, tell_stopped
from pyswarm_core.docker.units import INT64_MAX


@click.command(
    cls=Verb,
    help="Revert changes to a service's configuration and wait for it to converge\n\n"
    "Example: pyswarm service rollback --to 3 web",
)
@click.option(
    "--to",
    type=flags.Number(1, INT64_MAX),
    metavar="VERSION",
    help="Version of the spec to return to, see `service history` (default the previous one)",
)
@flags.detach
@flags.quiet_progress
@click.argument("service")
def rollback(*, to: int | None, detach: bool, quiet: bool, service: str) -> None:
    client = session.connect()
    found = rolled_back(client, service, to or 0)
    click.echo(service)
    tell_stopped(found)
    if not detach:
        converge.until_converged(client, [Watched.of(found)], quiet=quiet)
