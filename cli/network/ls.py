"""`pyswarm network ls`."""

import click

from cli import flags, session
from cli.lazy import Verb
from cli.render import listing
from cli.render.listing import Layout, Row
from cli.render.output import echo_lines
from pyswarm_core.docker import networking
from pyswarm_core.docker.units import format_time
from pyswarm_core.ids import short
from pyswarm_core.kinds import NETWORK
from pyswarm_core.objects import Network

LAYOUT = Layout(
    headings={
        "ID": "NETWORK ID",
        "Name": "NAME",
        "Driver": "DRIVER",
        "Scope": "SCOPE",
        "Subnet": "SUBNET",
        "VNI": "VNI",
        "IPv4": "IPV4",
        "IPv6": "IPV6",
        "Internal": "INTERNAL",
        "Ingress": "INGRESS",
        "Encrypted": "ENCRYPTED",
        "Labels": "LABELS",
        "CreatedAt": "CREATED AT",
    },
    columns=("ID", "Name", "Driver", "Scope"),
)


@click.command(
    name="ls",
    cls=Verb,
    help="List networks\n\nExample: pyswarm network ls --format '{{.Name}} {{.Subnet}}'",
)
@flags.quiet_ids
@flags.no_trunc
@flags.filter_
@flags.format_
def ls_(*, quiet: bool, no_trunc: bool, filters: tuple[str, ...], form: str) -> None:
    found = session.connect().objects(NETWORK, filters)
    rows = [row(network, long=no_trunc) for network in found]
    echo_lines(listing.show(LAYOUT, rows, form, quiet=quiet))


def row(network: Network, *, long: bool) -> Row:
    """A row of the list."""
    labels = network.spec.labels
    return {
        "ID": network.id if long else short(network.id),
        "Name": network.spec.name,
        "Driver": network.spec.driver,
        "Scope": networking.scope_of(network),
        "Subnet": network.subnet,
        "VNI": network.vni,
        "IPv4": True,
        "IPv6": network.spec.enable_ipv6,
        "Internal": network.spec.internal,
        "Ingress": network.spec.ingress,
        "Encrypted": network.spec.encrypted,
        "Labels": ",".join(f"{key}={labels[key]}" for key in sorted(labels)),
        "CreatedAt": format_time(network.created_at),
    }
