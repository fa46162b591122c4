"""`pyswarm node rm`."""

import click

from cli import session
from cli.failures import for_each
from cli.lazy import Verb


@click.command(
    cls=Verb,
    help="Remove one or more nodes from the fleet\n\nExample: pyswarm node rm --force host3",
)
@click.option("-f", "--force", is_flag=True, help="Force remove a node from the fleet")
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
def rm(*, force: bool, nodes: tuple[str, ...]) -> None:
    client = session.connect()
    for_each(nodes, lambda ref: client.remove_node(ref, force=force))
