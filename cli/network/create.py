"""`pyswarm network create`."""

from collections.abc import Mapping
from typing import Any

import click

from cli import session
from cli.lazy import Verb
from pyswarm_core.docker import entries, networking
from pyswarm_core.specs import Ipam, NetworkSpec
from pyswarm_core.validation import network_problems, require


@click.command(
    cls=Verb,
    help="Create an overlay network\n\n"
    "Example: pyswarm network create -d overlay --subnet 10.20.0.0/16 app",
)
@click.option(
    "-d", "--driver", default="overlay", show_default=True, help="Driver to manage the network"
)
@click.option(
    "--subnet", multiple=True, metavar="CIDR", help="Subnet in CIDR format (default a free one)"
)
@click.option(
    "--gateway", multiple=True, metavar="IP", help="Gateway of the subnet, the same on every node"
)
@click.option(
    "--ip-range", multiple=True, metavar="CIDR", help="Allocate addresses from a sub-range"
)
@click.option("--ipv6", is_flag=True, help="Enable IPv6 (default subnet a /64 of fd00::/8)")
@click.option("--internal", is_flag=True, help="Restrict external access to the network")
@click.option(
    "--attachable", is_flag=True, help="Accepted for compatibility: services can use every network"
)
@click.option("--ingress", is_flag=True, help="Create the network of the routing mesh")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="Set metadata on a network")
@click.option(
    "-o",
    "--opt",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set driver options: encrypted, mtu=BYTES, com.pyswarm.block-metadata=true",
)
@click.argument("name")
def create(*, name: str, **given: Any) -> None:
    spec = spec_of(name, given)
    require(network_problems(spec))
    click.echo(session.connect().create_network(spec).id)


def spec_of(name: str, given: Mapping[str, Any]) -> NetworkSpec:
    """The spec of the flags. Raises InvalidArgument."""
    options = networking.options(given["opt"])
    return NetworkSpec(
        name=name,
        driver=given["driver"],
        labels=entries.labels("--label", given["label"]),
        internal=given["internal"],
        attachable=given["attachable"],
        ingress=given["ingress"],
        enable_ipv6=given["ipv6"],
        encrypted=options.encrypted,
        ipam=Ipam(config=networking.pools(given["subnet"], given["gateway"], given["ip_range"])),
        mtu=options.mtu,
        block_metadata=options.block_metadata,
    )
