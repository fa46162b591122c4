"""`pyswarm node inspect`."""

import click

from cli import flags, inspection, session
from cli.lazy import Verb
from cli.node.self_ import node_of
from pyswarm_core.docker import objects


@click.command(
    cls=Verb,
    help="Display detailed information on one or more nodes; `self` is the controller's node\n\n"
    "Example: pyswarm node inspect --pretty host2",
)
@flags.inspect_format
@flags.pretty
@click.argument("nodes", nargs=-1, required=True, metavar="self|NODE...")
def inspect(*, form: str, pretty: bool, nodes: tuple[str, ...]) -> None:
    client = session.connect()
    if pretty:
        from cli.render.pretty import node_lines

        for ref in nodes:
            for line in node_lines(node_of(client, ref)):
                click.echo(line)
        return
    inspection.inspect_all(nodes, form, lambda ref: objects.of_node(node_of(client, ref)))
