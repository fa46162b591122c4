"""`pyswarm network inspect`."""

from typing import Any

import click

from cli import flags, inspection, session
from cli.lazy import Verb
from cli.render import documents
from pyswarm_core.objects import Network
from pyswarm_core.specs import IpamConfig, ipv4_config


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
    pools = [_pool(network.subnet, ipv4_config(spec))]
    if network.subnet6:
        pools.append(_pool(network.subnet6, IpamConfig()))
    return {
        "Name": spec.name,
        "ID": network.id,
        "Created": found.pop("CreatedAt"),
        "Scope": "swarm",
        "Driver": spec.driver,
        "EnableIPv6": spec.enable_ipv6,
        "IPAM": {"Driver": spec.ipam.driver, "Config": pools},
        "Internal": spec.internal,
        "Attachable": spec.attachable,
        "Ingress": spec.ingress,
        "Options": {"encrypted": ""} if spec.encrypted else {},
        "Labels": spec.labels,
        **{key: value for key, value in found.items() if key != "ID"},
    }


def _pool(subnet: str, config: IpamConfig) -> dict[str, str]:
    pool = {"Subnet": subnet, "IPRange": config.ip_range, "Gateway": config.gateway}
    return {key: value for key, value in pool.items() if value}
