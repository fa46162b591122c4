"""`pyswarm volume ls`."""

from collections.abc import Sequence

import click

from cli import flags, session
from cli.lazy import Verb
from cli.render import listing
from cli.render.listing import Layout, Row
from cli.volume.hosts import hosts_of
from pyswarm_core.docker.units import format_time
from pyswarm_core.kinds import VOLUME
from pyswarm_core.volumes.volume import Volume

LAYOUT = Layout(
    headings={
        "Driver": "DRIVER",
        "Name": "VOLUME NAME",
        "Node": "NODE",
        "Placement": "PLACEMENT",
        "ID": "ID",
        "Labels": "LABELS",
        "Mountpoint": "MOUNTPOINT",
        "Scope": "SCOPE",
        "CreatedAt": "CREATED AT",
    },
    columns=("Driver", "Name", "Node"),
)


@click.command(
    name="ls",
    cls=Verb,
    help="List volumes, and the nodes that have their copies\n\n"
    "Example: pyswarm volume ls --filter dangling=true",
)
@click.option("-q", "--quiet", is_flag=True, help="Only display volume names")
@flags.filter_
@flags.format_
def ls_(*, quiet: bool, filters: tuple[str, ...], form: str) -> None:
    client = session.connect()
    found = client.objects(VOLUME, filters)
    if quiet:
        for volume in found:
            click.echo(volume.spec.name)
        return
    hosts = hosts_of(client, found)
    rows = [row(volume, hosts(volume)) for volume in found]
    for line in listing.show(LAYOUT, rows, form, quiet=False):
        click.echo(line)


def row(volume: Volume, hosts: Sequence[str]) -> Row:
    """A row of the list."""
    labels = volume.spec.labels
    return {
        "Driver": volume.spec.driver,
        "Name": volume.spec.name,
        "Node": ",".join(hosts),
        "Placement": volume.spec.placement.value,
        "ID": volume.id,
        "Labels": ",".join(f"{key}={labels[key]}" for key in sorted(labels)),
        "Mountpoint": f"volumes/{volume.id}/_data",
        "Scope": "local",
        "CreatedAt": format_time(volume.created_at),
    }
