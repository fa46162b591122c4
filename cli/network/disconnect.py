"""`pyswarm network disconnect`."""

import click

from cli.lazy import Verb


@click.command(
    cls=Verb,
    help="Disconnect a container from a network, without a restart if it runs\n\n"
    "Example: pyswarm network disconnect app postgres",
)
@click.option(
    "-f", "--force", is_flag=True,
    help="Do not wait until the container's node has removed the interface",
)  # fmt: skip
@click.argument("network")
@click.argument("container")
def disconnect(*, force: bool, network: str, container: str) -> None:
    from functools import partial

    from cli import session
    from cli.container import calls
    from cli.network import changing, connecting

    client = session.connect()
    named = calls.named(client, container)
    left = changing.named(client, network)
    changing.change(client, named, partial(connecting.disconnected, network=left), wait=not force)
