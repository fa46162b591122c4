"""`pyswarm network connect`."""

import click

from cli.container.spec import refused
from cli.lazy import Verb


@click.command(
    cls=Verb,
    help="Connect a container to a network, without a restart if it runs\n\n"
    "Example: pyswarm network connect --alias db app postgres",
    params=refused.options_of(refused.CONNECT),
)
@click.option(
    "--alias", "aliases", multiple=True, metavar="NAME",
    help="Add network-scoped alias for the container",
)  # fmt: skip
@click.option("--ip", default="", metavar="IP", help="IPv4 address (e.g., 172.30.100.104)")
@click.argument("network")
@click.argument("container")
def connect(*, aliases: tuple[str, ...], ip: str, network: str, container: str) -> None:
    from functools import partial

    from cli import session
    from cli.container import calls
    from cli.network import changing, connecting

    client = session.connect()
    named = calls.named(client, container)
    joined = changing.named(client, network)
    joins = connecting.attachment(joined, aliases, ip)
    change = partial(connecting.connected, network=joined, joins=joins)
    changing.change(client, named, change)
