"""`pyswarm volume backup`."""

import os

import click

from cli import session
from cli.lazy import Verb
from pyswarm_core.docker.units import decimal_size


@click.command(
    cls=Verb,
    help="Write all files of a volume to a tar archive, with owners, modes, links and extended"
    " attributes\n\nFILE gets its name once it is complete; `-` is standard output. A name that"
    " ends with .tar.gz, .tgz or .tar.zst is compressed. Tasks go on meanwhile, with a warning.\n\n"
    "Example: pyswarm volume backup pgdata pgdata.tar.gz",
)
@click.option(
    "--stop", is_flag=True, help="Stop the tasks that mount the volume until the backup is complete"
)
@click.option(
    "--node",
    default="",
    metavar="NODE",
    help="Of a volume with several copies: the node whose copy",
)
@click.option("-q", "--quiet", is_flag=True, help="Suppress progress output")
@click.argument("volume")
@click.argument("file", metavar="FILE|-")
def backup(*, stop: bool, node: str, quiet: bool, volume: str, file: str) -> None:
    import asyncio

    from cli.volume.archiving import archives, streaming
    from cli.volume.archiving.progress import Progress, warning
    from pyswarm_core.streams.requests import ReadVolumeRequest

    archives.check_output(file)
    progress = Progress(shown=not quiet)
    request = ReadVolumeRequest(ref=volume, node=node, hold=stop)

    def tell(notice: str) -> None:
        progress.close()
        click.echo(warning(notice), err=True)

    try:
        client = session.connect()
        size = asyncio.run(streaming.backup(client, request, file, progress, tell))
    finally:
        progress.close()
    if not quiet and os.isatty(2):
        click.echo(f"Backed up volume {volume}: {decimal_size(size)}", err=True)
