"""`pyswarm network create`."""

from collections.abc import Mapping
from typing import Any

import click

from cli import session
from cli.lazy import Verb
from cli.service import entries
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import Ipam, IpamConfig, NetworkSpec
from pyswarm_core.validation import network_problems, require

MTU_OPTIONS = ("mtu", "com.docker.network.driver.mtu")


@click.command(
    cls=Verb,
    help="Create an overlay network that tasks of all hosts can share.\n\n"
    "Example: pyswarm network create -d overlay --subnet 10.20.0.0/16 app",
)
@click.option("-d", "--driver", default="overlay", show_default=True, help="Driver")
@click.option("--subnet", multiple=True, metavar="CIDR", help="Its addresses [default: a free one]")
@click.option("--internal", is_flag=True, help="No way out of the network")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="Labels")
@click.option("-o", "--opt", multiple=True, metavar="KEY=VALUE", help="mtu=BYTES")
@click.argument("name")
def create(*, name: str, **given: Any) -> None:
    spec = spec_of(name, given)
    require(network_problems(spec))
    click.echo(session.connect().create_network(spec).id)


def spec_of(name: str, given: Mapping[str, Any]) -> NetworkSpec:
    """The spec that the flags describe. Raises InvalidArgument."""
    return NetworkSpec(
        name=name,
        driver=given["driver"],
        labels=entries.labels("--label", given["label"]),
        internal=given["internal"],
        ipam=Ipam(config=tuple(IpamConfig(subnet=subnet) for subnet in given["subnet"])),
        mtu=_mtu(given["opt"]),
    )


def _mtu(options: tuple[str, ...]) -> int:
    mtu = 0
    for option in options:
        key, _, value = option.partition("=")
        if key == "encrypted":
            raise InvalidArgument("--opt encrypted is not supported yet")
        if key not in MTU_OPTIONS:
            raise InvalidArgument(f"--opt {option[:80]!r} is not known: want mtu=BYTES")
        if not value.isascii() or not value.isdecimal() or len(value) > 9:
            raise InvalidArgument(f"--opt {option[:80]!r} is not valid: want mtu=BYTES")
        mtu = int(value)
    return mtu
