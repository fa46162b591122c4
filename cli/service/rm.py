"""`pyswarm service rm`."""

import click

from cli import converge, flags, session
from cli.converge import Watched
from cli.failures import Failures
from cli.lazy import Verb


@click.command(
    cls=Verb,
    help="Remove one or more services and wait for their tasks to end\n\n"
    "Example: pyswarm service rm web db",
)
@flags.detach_from_end
@flags.quiet_progress
@click.argument("services", nargs=-1, required=True, metavar="SERVICE...")
def rm(*, detach: bool, quiet: bool, services: tuple[str, ...]) -> None:
    client = session.connect()
    removed = []
    with Failures() as failures:
        for ref in dict.fromkeys(services):
            with failures.collected():
                service = client.remove_service(ref)
                click.echo(ref)
                removed.append(Watched.of(service))
        if removed and not detach:
            converge.until_gone(client, removed, quiet=quiet)
