"""`pyswarm volume restore`."""

import os

import click

from cli import session
from cli.lazy import Verb
from pyswarm_core.docker.units import decimal_size
from pyswarm_core.errors import NotFound, PyswarmError


@click.command(
    cls=Verb,
    help="Replace all files of a volume with those of a tar archive: of `volume backup`, or of any"
    " other origin\n\nThe volume is created if it does not exist. FILE may be compressed; `-` is"
    " standard input. A damaged archive changes nothing.\n\n"
    "Example: pyswarm volume restore pgdata pgdata.tar.gz",
)
@click.option(
    "--stop", is_flag=True, help="Stop the tasks that mount the volume until it is restored"
)
@click.option(
    "--node",
    default="",
    metavar="NODE",
    help="Where the copy is made if the volume has none, or has lost its node",
)
@click.option("-q", "--quiet", is_flag=True, help="Suppress progress output")
@click.argument("volume")
@click.argument("file", metavar="FILE|-")
def restore(*, stop: bool, node: str, quiet: bool, volume: str, file: str) -> None:
    import asyncio
    from contextlib import closing, suppress

    from cli.errors import Broken
    from cli.volume.archiving import streaming
    from cli.volume.archiving.archives import Source
    from cli.volume.archiving.progress import Progress
    from pyswarm_core.kinds import VOLUME
    from pyswarm_core.streams.requests import WriteVolumeRequest
    from pyswarm_core.volumes.volume import VolumeSpec

    source = Source(file)
    with closing(source):
        client = session.connect()
        made = None
        try:
            client.object(VOLUME, volume)
        except NotFound:
            made = client.create_volume(VolumeSpec(name=volume))
        progress = Progress(shown=not quiet)
        request = WriteVolumeRequest(ref=volume, node=node, hold=stop)
        try:
            size = asyncio.run(streaming.restore(client, request, source, progress))
        except PyswarmError as error:
            if made is not None and not isinstance(error, Broken):
                with suppress(PyswarmError):  # the error says why there is none
                    client.remove_object(VOLUME, made.id)
            raise
        finally:
            progress.close()
    if not quiet and os.isatty(2):
        click.echo(f"Restored volume {volume}: {decimal_size(size)}", err=True)
