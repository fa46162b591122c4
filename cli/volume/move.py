"""`pyswarm volume move`."""

import click

from cli import flags, session
from cli.lazy import Verb


@click.command(
    cls=Verb,
    help="Move one or more volumes to another node. The tasks that mount them are stopped, the data"
    " is copied and verified, and the tasks start there. If the move fails, they start where they"
    " were. Volumes that a service mounts together move together\n\n"
    "Example: pyswarm volume move data --to host2",
)
@click.option("--to", metavar="NODE", default="", help="Node to move the volumes to")
@click.option("--cancel", is_flag=True, help="Cancel the moves: tasks start where they were")
@click.option(
    "--force", is_flag=True, help="Move also to a node that a constraint of a service excludes"
)
@click.option(
    "-d", "--detach", is_flag=True, help="Exit immediately instead of waiting for the move"
)
@flags.quiet_progress
@click.argument("volumes", nargs=-1, required=True, metavar="VOLUME...")
def move(
    *, to: str, cancel: bool, force: bool, detach: bool, quiet: bool, volumes: tuple[str, ...]
) -> None:
    if cancel == bool(to):
        raise click.UsageError("specify --to NODE, or --cancel to end a move")
    from cli.volume import calls

    client = session.connect()
    if cancel:
        for one in calls.cancel(client, volumes):
            click.echo(one.name)
        return
    begun = calls.move(client, volumes, to, force=force)
    if not detach:
        from cli.volume.following import follow

        follow(client, begun, to, quiet=quiet)
    for one in begun:
        click.echo(one.name)
