"""`pyswarm network rm`."""

import click

from cli import session
from cli.failures import Failures
from cli.lazy import Verb
from pyswarm_core.errors import NotFound
from pyswarm_core.kinds import NETWORK


@click.command(cls=Verb, help="Remove one or more networks\n\nExample: pyswarm network rm app")
@click.option("-f", "--force", is_flag=True, help="Do not error if the network does not exist")
@click.argument("networks", nargs=-1, required=True, metavar="NETWORK...")
def rm(*, force: bool, networks: tuple[str, ...]) -> None:
    client = session.connect()
    with Failures() as failures:
        for ref in networks:
            with failures.collected():
                try:
                    client.remove_object(NETWORK, ref)
                except NotFound:
                    if not force:
                        raise
                    continue
                click.echo(ref)
