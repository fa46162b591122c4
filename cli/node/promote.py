"""`pyswarm node promote` and `pyswarm node demote`: refused."""

import click

from cli.lazy import Verb
from pyswarm_core.errors import InvalidArgument


@click.command(
    cls=Verb,
    help="Promote one or more nodes to manager: not supported, see the error\n\n"
    "Example: pyswarm node promote host2",
)
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
def promote(*, nodes: tuple[str, ...]) -> None:
    raise InvalidArgument(
        f"node promote {' '.join(nodes)}: a worker cannot become a manager: a node is one while a"
        " controller runs on its host (`python -m controller`, on an etcd that all controllers"
        " use)"
    )


@click.command(
    cls=Verb,
    help="Demote one or more nodes from manager: not supported, see the error\n\n"
    "Example: pyswarm node demote host2",
)
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
def demote(*, nodes: tuple[str, ...]) -> None:
    raise InvalidArgument(
        f"node demote {' '.join(nodes)}: a manager cannot become a worker while its controller"
        " runs: stop the controller of that host"
    )
