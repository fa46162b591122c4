"""`pyswarm network inspect`."""

from typing import Any

import click

from cli import flags, inspection, session
from cli.lazy import Verb
from cli.render import documents
from pyswarm_core.objects import Network


@click.command(
    cls=Verb,
    help="Show networks in full.\n\nExample: pyswarm network inspect app --format '{{.Subnet}}'",
)
@flags.inspect_format
@click.argument("networks", nargs=-1, required=True, metavar="NETWORK...")
def inspect(*, form: str, networks: tuple[str, ...]) -> None:
    client = session.connect()
    inspection.inspect_all(networks, form, lambda ref: document(client.network(ref)))


def document(network: Network) -> dict[str, Any]:
    """The network as Docker shows one, then as we keep it."""
    found = documents.document(network)
    spec = network.spec
    return {
        "Name": spec.name,
        "ID": network.id,
        "Created": found.pop("CreatedAt"),
        "Scope": "swarm",
        "Driver": spec.driver,
        "IPAM": {"Driver": spec.ipam.driver, "Config": [{"Subnet": network.subnet}]},
        "Internal": spec.internal,
        "Labels": spec.labels,
        **{key: value for key, value in found.items() if key != "ID"},
    }
