"""`pyswarm compose port`."""

import click

from cli.compose import project
from cli.compose.control.logs import INDEX
from cli.compose.verb import ProjectVerb
from cli.flags import Choice, Number
from pyswarm_core.errors import NotFound

PORT_MAX = 65_535


@click.command(
    "port",
    cls=ProjectVerb,
    help="Print the public port for a port binding\n\n"
    "A port of the routing mesh is published on every node, as 0.0.0.0.\n\n"
    "Example: pyswarm compose port web 80",
)
@INDEX
@click.option(
    "--protocol", type=Choice(["tcp", "udp", "sctp"]), default="tcp",
    help="Protocol of the port (default tcp)",
)  # fmt: skip
@click.argument("service")
@click.argument("private", type=Number(1, PORT_MAX), metavar="PRIVATE_PORT")
def port(*, index: int, protocol: str, service: str, private: int) -> None:
    from cli.container.control.port import address

    one = project.opened().one(service, index)
    found = [
        each
        for each in one.view.ports
        if (each.target_port, each.protocol.value) == (private, protocol)
    ]
    if not found:
        raise NotFound(f"no port {private}/{protocol} for container {one.name}")
    for each in sorted(found, key=lambda each: each.published_port):
        click.echo(address(each))
