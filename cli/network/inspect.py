"""`pyswarm network inspect`."""

from typing import Any

import click

from cli import flags, inspection, session
from cli.lazy import Verb
from pyswarm_core.docker import objects


@click.command(
    cls=Verb,
    help="Display detailed information on one or more networks\n\n"
    "Example: pyswarm network inspect app --format '{{.Subnet}}'",
)
@flags.inspect_format
@click.option("-v", "--verbose", is_flag=True, help="Include services, tasks and nodes")
@click.argument("networks", nargs=-1, required=True, metavar="NETWORK...")
def inspect(*, form: str, verbose: bool, networks: tuple[str, ...]) -> None:
    client = session.connect()

    def read(ref: str) -> dict[str, Any]:
        if verbose:
            return objects.of_members(client.network_members(ref))
        return objects.of_network(client.network(ref))

    inspection.inspect_all(networks, form, read)
