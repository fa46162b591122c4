"""`pyswarm volume forget`."""

import click

from cli import session
from cli.lazy import Verb


@click.command(
    cls=Verb,
    help="Give up the copy of a volume on a node that was lost: its tasks start elsewhere, with an"
    " empty copy or with one that you restore first. The files on the node stay there until the"
    " volume is removed, and a task that runs there again has them\n\n"
    "Example: pyswarm volume forget data host1",
)
@click.option("-f", "--force", is_flag=True, help="Give up the copy even if the node is ready")
@click.argument("volume")
@click.argument("node")
def forget(*, force: bool, volume: str, node: str) -> None:
    from cli.volume import calls

    click.echo(calls.forget(session.connect(), volume, node, force=force).spec.name)
