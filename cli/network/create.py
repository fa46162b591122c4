"""`pyswarm network create`."""

from collections.abc import Mapping
from typing import Any

import click

from cli import session
from cli.lazy import Verb
from pyswarm_core.docker import entries, networking
from pyswarm_core.errors import invalid
from pyswarm_core.specs import Ipam, NetworkSpec
from pyswarm_core.validation import network_problems, require


@click.command(
    cls=Verb,
    help="Create a network, which reaches every host\n\n"
    "Example: pyswarm network create --subnet 10.20.0.0/16 app",
)
@click.option(
    "-d",
    "--driver",
    metavar="DRIVER",
    default="overlay",
    show_default=True,
    help="Driver to manage the network",
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
@click.option(
    "--ipam-driver",
    metavar="DRIVER",
    default="default",
    show_default=True,
    help="IP Address Management Driver",
)
@click.option("--ipv4/--no-ipv4", default=True, help="Enable IPv4 address assignment (always on)")
@click.option("--ipv6", is_flag=True, help="Enable IPv6 (default subnet a /64 of fd00::/8)")
@click.option("--internal", is_flag=True, help="Restrict external access to the network")
@click.option(
    "--attachable", is_flag=True, help="Accepted for compatibility: services can use every network"
)
@click.option("--ingress", is_flag=True, help="Create the network of the routing mesh")
@click.option(
    "--scope",
    metavar="SCOPE",
    default="swarm",
    show_default=True,
    help="Control the network's scope",
)
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="Set metadata on a network")
@click.option(
    "-o",
    "--opt",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set driver options: encrypted, mtu=BYTES, com.pyswarm.block-metadata=true",
)
@click.argument("name", metavar="NETWORK")
def create(*, name: str, **given: Any) -> None:
    spec = spec_of(name, given)
    require(network_problems(spec))
    network = session.connect().create_network(spec)
    if notice := networking.driver(given["driver"]).notice:
        click.echo(f"network {name}: {notice}", err=True)
    click.echo(network.id)


def spec_of(name: str, given: Mapping[str, Any]) -> NetworkSpec:
    """The spec of the flags. Raises InvalidArgument."""
    _require_only(given)
    options = networking.options(given["opt"])
    return NetworkSpec(
        name=name,
        driver=networking.driver(given["driver"]).name,
        labels=entries.labels("--label", given["label"]),
        internal=given["internal"],
        attachable=given["attachable"],
        ingress=given["ingress"],
        enable_ipv6=given["ipv6"],
        encrypted=options.encrypted,
        ipam=Ipam(
            driver=given["ipam_driver"],
            config=networking.pools(given["subnet"], given["gateway"], given["ip_range"]),
        ),
        mtu=options.mtu,
        block_metadata=options.block_metadata,
    )


def _require_only(given: Mapping[str, Any]) -> None:
    """Raise InvalidArgument for a restriction that Docker has flags for, and networks do not."""
    if not given["ipv4"]:
        reason = "expected true: IPv6 addresses follow from IPv4 addresses"
        raise invalid("--ipv4", "false", reason)
    if given["scope"] != "swarm":
        reason = "expected swarm: a network reaches every host; the network bridge is of one host"
        raise invalid("--scope", given["scope"], reason)
