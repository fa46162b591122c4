"""`pyswarm port`."""

import re

import click

from cli import session
from cli.lazy import Verb
from pyswarm_core.docker.containers.views import published
from pyswarm_core.errors import NotFound, invalid
from pyswarm_core.specs import PortConfig, Protocol, PublishMode

ANY_ADDRESS = "0.0.0.0"
_PORT = re.compile(r"([0-9]{1,5})(?:/(tcp|udp|sctp))?")


@click.command(
    cls=Verb,
    help="List port mappings or a specific mapping for the container\n\n"
    "A port of the routing mesh is published on every node, as 0.0.0.0.\n\n"
    "Example: pyswarm port web.1 80/tcp",
)
@click.argument("container")
@click.argument("private", required=False, metavar="[PRIVATE_PORT[/PROTO]]")
def port(*, container: str, private: str | None) -> None:
    wanted = None if private is None else _wanted(private)
    client = session.connect()
    from cli.container import calls

    named = calls.named(client, container)
    if named.is_service:
        ports = named.service.endpoint.ports
        ports = tuple(one for one in ports if one.publish_mode is PublishMode.INGRESS)
    else:
        ports = published(named.service, named.task.task if named.task else None)
    if wanted is None:
        for one in sorted(ports, key=_order):
            click.echo(f"{one.target_port}/{one.protocol} -> {address(one)}")
        return
    found = [one for one in ports if (one.target_port, one.protocol) == wanted]
    if not found:
        number, protocol = wanted
        raise NotFound(f"no public port {number}/{protocol} published for {container}")
    for one in sorted(found, key=_order):
        click.echo(address(one))


def _wanted(text: str) -> tuple[int, Protocol]:
    match = _PORT.fullmatch(text)
    if match is None or not 0 < int(match[1]) < 65536:
        expected = "expected a port of 1 to 65535, as in 80 or 53/udp"
        raise invalid("PRIVATE_PORT", text, expected)
    return int(match[1]), Protocol(match[2] or "tcp")


def _order(one: PortConfig) -> tuple[int, str, int]:
    return one.target_port, one.protocol, one.published_port


def address(one: PortConfig) -> str:
    """`0.0.0.0:8080`, or `[::1]:8080`."""
    host = one.host_ip or ANY_ADDRESS
    return f"[{host}]:{one.published_port}" if ":" in host else f"{host}:{one.published_port}"
