"""`pyswarm volume ls`."""

from collections.abc import Sequence

import click

from cli import flags, session
from cli.lazy import Verb
from cli.render import listing
from cli.render.listing import Layout, Row
from cli.volume import refused
from cli.volume.hosts import names_of, users_of
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.clock import Instant
from pyswarm_core.docker.units import ago, decimal_size, format_time
from pyswarm_core.docker.volumes import state_of
from pyswarm_core.kinds import VOLUME
from pyswarm_core.natural import natural
from pyswarm_core.volumes.volume import Volume

_USERS = 3
"""Services and containers that a row names."""
NOT_KNOWN = ("Availability", "Group", "Status")
"""Docker's placeholders that it fills for other lists, or for cluster volumes, alone."""
LAYOUT = Layout(
    headings={
        "Driver": "DRIVER",
        "Name": "VOLUME NAME",
        "Node": "NODE",
        "State": "STATE",
        "Size": "SIZE",
        "UsedBy": "USED BY",
        "LastUsed": "LAST USED",
        "Links": "LINKS",
        "Placement": "PLACEMENT",
        "ID": "ID",
        "Labels": "LABELS",
        "Mountpoint": "MOUNTPOINT",
        "Scope": "SCOPE",
        "CreatedAt": "CREATED AT",
        **{key: key.upper() for key in NOT_KNOWN},
    },
    columns=("Driver", "Name", "Node", "State", "Size", "UsedBy", "LastUsed"),
)


@click.command(
    name="ls",
    cls=Verb,
    params=refused.of_ls(),
    help="List volumes, and the nodes that have their copies\n\n"
    "Example: pyswarm volume ls --filter dangling=true",
)
@click.option("-q", "--quiet", is_flag=True, help="Only display volume names")
@flags.filter_
@flags.format_
def ls_(*, quiet: bool, filters: tuple[str, ...], form: str) -> None:
    client = session.connect()
    found = sorted(client.objects(VOLUME, filters), key=lambda volume: natural(volume.spec.name))
    if quiet:
        for volume in found:
            click.echo(volume.spec.name)
        return
    name, users, now = names_of(client, found), users_of(client), SystemClock().now()
    rows = [
        row(volume, [name(one) for one in volume.copies], users(volume), now) for volume in found
    ]
    for line in listing.show(LAYOUT, rows, form, quiet=False):
        click.echo(line)


def row(volume: Volume, hosts: Sequence[str], users: Sequence[str], now: Instant) -> Row:
    """A row of the list."""
    labels, size = volume.spec.labels, volume.size
    more = f" and {len(users) - _USERS} more" if len(users) > _USERS else ""
    return {
        "Driver": volume.spec.driver,
        "Name": volume.spec.name,
        "Node": ",".join(hosts),
        "State": state_of(volume),
        "Size": "N/A" if size is None else decimal_size(size),
        "UsedBy": ", ".join(users[:_USERS]) + more,
        "LastUsed": ago(volume.last_used_at, now) if volume.last_used_at else "",
        "Links": str(len(users)),
        "Placement": volume.spec.placement.value,
        "ID": volume.id,
        "Labels": ",".join(f"{key}={labels[key]}" for key in sorted(labels)),
        "Mountpoint": f"volumes/{volume.id}/_data",
        "Scope": "local",
        "CreatedAt": format_time(volume.created_at),
        **dict.fromkeys(NOT_KNOWN, "N/A"),
    }
