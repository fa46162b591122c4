"""`pyswarm volume inspect`."""

from functools import partial
from typing import Any

import click

from cli import flags, inspection, session
from cli.client import Client
from cli.lazy import Verb
from cli.volume import calls
from cli.volume.hosts import names_of, users_of
from pyswarm_core.docker.volumes import of_progress, of_volume
from pyswarm_core.kinds import VOLUME
from pyswarm_core.volumes.volume import VolumeWorkKind


@click.command(
    cls=Verb,
    help="Display detailed information on one or more volumes\n\n"
    "Example: pyswarm volume inspect data --format '{{.Nodes}}'",
)
@flags.inspect_format
@click.argument("volumes", nargs=-1, required=True, metavar="VOLUME...")
def inspect(*, form: str, volumes: tuple[str, ...]) -> None:
    client = session.connect()

    inspection.inspect_all(volumes, form, partial(document_of, client), whole=True)


def document_of(client: Client, ref: str) -> dict[str, Any]:
    """The document of a volume. Raises NotFound."""
    volume = client.object(VOLUME, ref)
    found = of_volume(volume, names_of(client, (volume,)))
    found["UsageData"]["RefCount"] = len(users_of(client)(volume))
    if volume.work is not None and volume.work.kind is VolumeWorkKind.MOVE:
        (move,) = calls.moves(client, (volume.id,))
        found["Status"] |= of_progress(move)
    return found
