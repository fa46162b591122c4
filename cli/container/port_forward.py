"""`pyswarm port-forward`."""

import click

from cli import session
from cli.lazy import Verb
from pyswarm_core.docker.units import parse_integer
from pyswarm_core.errors import InvalidArgument, invalid
from pyswarm_core.streams.requests import PortForwardRequest
from pyswarm_core.validation.endpoint import is_address

_PORT_MAX = 65_535


@click.command(
    "port-forward",
    cls=Verb,
    help="Forward a local TCP port to a port of a running task\n\n"
    "Example: pyswarm port-forward web.1 8080:80",
)
@click.option(
    "--address",
    default="127.0.0.1",
    metavar="IP",
    help="Address to listen on (default 127.0.0.1): others than loopback are open to other hosts",
)
@click.argument("target", metavar="TASK|SERVICE[.SLOT]")
@click.argument("ports", metavar="[LOCAL:]PORT")
def port_forward(*, address: str, target: str, ports: str) -> None:
    local, remote = parse(ports)
    if address != "localhost" and not is_address(address):
        raise invalid("--address", address, "expected an IP address of this machine, or localhost")
    client = session.connect()
    from cli.streams import forwarding

    forwarding.run(client, PortForwardRequest(ref=target, port=remote), address, local)


def parse(text: str) -> tuple[int, int]:
    """The local and the task's port of `8080:80` or `80`; a local port of 0 is any free one.

    Raises InvalidArgument.
    """
    local, colon, remote = text.rpartition(":")
    try:
        to = parse_integer(remote)
        at = parse_integer(local) if colon else to
    except InvalidArgument:
        at = to = -1
    if not (0 <= at <= _PORT_MAX and 1 <= to <= _PORT_MAX):
        raise invalid("PORT", text, "expected [LOCAL:]PORT, with ports of 1 to 65535")
    return at, to
