"""`pyswarm pause` and `pyswarm unpause`."""

import click

from cli import session
from cli.failures import for_each
from cli.lazy import Verb


@click.command(
    cls=Verb,
    help="Pause all processes within one or more containers\n\n"
    "A paused container receives no connections, and its checks are not made.\n\n"
    "Example: pyswarm pause web.1",
)
@click.argument("containers", nargs=-1, required=True, metavar="CONTAINER...")
def pause(*, containers: tuple[str, ...]) -> None:
    _each(containers, paused=True)


@click.command(
    cls=Verb,
    help="Unpause all processes within one or more containers\n\nExample: pyswarm unpause web.1",
)
@click.argument("containers", nargs=-1, required=True, metavar="CONTAINER...")
def unpause(*, containers: tuple[str, ...]) -> None:
    _each(containers, paused=False)


def _each(containers: tuple[str, ...], *, paused: bool) -> None:
    client = session.connect()
    from cli.container.control import calls

    for_each(dict.fromkeys(containers), lambda ref: calls.pause(client, ref, paused=paused))
