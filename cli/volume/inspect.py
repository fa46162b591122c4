"""`pyswarm volume inspect`."""

from typing import Any

import click

from cli import flags, inspection, session
from cli.lazy import Verb
from cli.volume.hosts import hosts_of
from pyswarm_core.docker.volumes import of_volume
from pyswarm_core.kinds import VOLUME


@click.command(
    cls=Verb,
    help="Display detailed information on one or more volumes\n\n"
    "Example: pyswarm volume inspect data --format '{{.Nodes}}'",
)
@flags.inspect_format
@click.argument("volumes", nargs=-1, required=True, metavar="VOLUME...")
def inspect(*, form: str, volumes: tuple[str, ...]) -> None:
    client = session.connect()

    def read(ref: str) -> dict[str, Any]:
        volume = client.object(VOLUME, ref)
        return of_volume(volume, hosts_of(client, (volume,))(volume))

    inspection.inspect_all(volumes, form, read)
