"""`pyswarm network inspect`."""

from typing import Any

import click

from cli import flags, inspection, session
from cli.lazy import Verb


@click.command(
    cls=Verb,
    help="Display detailed information on one or more networks\n\n"
    "Example: pyswarm network inspect app --format '{{.Subnet}}'",
)
@flags.inspect_format
@click.option(
    "-v", "--verbose", is_flag=True, help="Verbose output for diagnostics: services and nodes"
)
@click.argument("networks", nargs=-1, required=True, metavar="NETWORK...")
def inspect(*, form: str, verbose: bool, networks: tuple[str, ...]) -> None:
    client, whole = session.connect(), inspection.is_template(form)

    def read(ref: str) -> dict[str, Any]:
        return inspection.network_document(client, ref, verbose=verbose, whole=whole)

    inspection.inspect_all(networks, form, read, whole=True)
