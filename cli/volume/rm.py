"""`pyswarm volume rm`."""

import click

from cli import session
from cli.failures import Failures
from cli.lazy import Verb
from pyswarm_core.errors import NotFound
from pyswarm_core.kinds import VOLUME


@click.command(
    cls=Verb,
    help="Remove one or more volumes, with their data on all nodes. You cannot remove a volume that"
    " is in use by a service or container\n\nExample: pyswarm volume rm data",
)
@click.option(
    "-f", "--force", is_flag=True, help="Force the removal of one or more volumes: ignore missing"
)
@click.argument("volumes", nargs=-1, required=True, metavar="VOLUME...")
def rm(*, force: bool, volumes: tuple[str, ...]) -> None:
    client = session.connect()
    with Failures() as failures:
        for ref in volumes:
            with failures.collected():
                try:
                    client.remove_object(VOLUME, ref)
                except NotFound:
                    if not force:
                        raise
                click.echo(ref)
