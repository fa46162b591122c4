"""`pyswarm volume prune`."""

import click

from cli.failures import Failures
from cli.lazy import Verb
from pyswarm_core.errors import invalid
from pyswarm_core.volumes.volume import Volume

_WHICH = "This will remove {} volumes not used by at least one service or container."


@click.command(
    cls=Verb,
    help="Remove unused anonymous volumes; with --all also named ones\n\n"
    "Example: pyswarm volume prune --force",
)
@click.option(
    "-a", "--all", "every", is_flag=True, help="Remove all unused volumes, not just anonymous ones"
)
@click.option("-f", "--force", is_flag=True, help="Do not prompt for confirmation")
@click.option(
    "--filter", "filters", multiple=True, metavar="KEY=VALUE",
    help="Provide filter values: label=KEY[=VALUE], all=true",
)  # fmt: skip
def prune(*, every: bool, force: bool, filters: tuple[str, ...]) -> None:
    from cli import session
    from pyswarm_core.docker.units import decimal_size
    from pyswarm_core.kinds import VOLUME

    labels, all_ = parsed(filters)
    every = every or all_
    client = session.connect()
    found = [
        volume
        for volume in client.objects(VOLUME, ("dangling=true", *labels))
        if every or volume.is_anonymous
    ]
    if not force and not confirmed(found, every=every):
        return
    freed = 0
    with Failures() as failures:
        if found:
            click.echo("Deleted Volumes:")
        for volume in found:
            with failures.collected():
                client.remove_object(VOLUME, volume.id)
                click.echo(volume.spec.name)
                freed += volume.size or 0
        if found:
            click.echo()
        click.echo(f"Total reclaimed space: {decimal_size(freed)}")


def parsed(filters: tuple[str, ...]) -> tuple[list[str], bool]:
    """The filters by labels, and whether one selects all volumes. Raises InvalidArgument."""
    labels, every = [], False
    for text in filters:
        key, _, value = text.partition("=")
        if key == "all" and value in ("true", "1", "false", "0"):
            every = value in ("true", "1")
        elif key == "label" and value:
            labels.append(text)
        else:
            raise invalid("--filter", text, "expected label=KEY[=VALUE] or all=true")
    return labels, every


def confirmed(found: list[Volume], *, every: bool) -> bool:
    """Show what would be removed, and ask."""
    click.echo(f"WARNING! {_WHICH.format('all' if every else 'anonymous local')}")
    for volume in found:
        click.echo(f"  {volume.spec.name}")
    return click.confirm("Are you sure you want to continue?")
