"""`pyswarm volume cp`."""

import asyncio
import os
import sys

import click

from cli import session
from cli.container.files.cp import Place, place
from cli.lazy import Verb
from pyswarm_core.docker.units import decimal_size
from pyswarm_core.errors import InvalidArgument, invalid


@click.command(
    cls=Verb,
    help="Copy files/folders between a volume and the local filesystem, as `pyswarm cp` does with a"
    " container\n\nTasks that mount the volume go on meanwhile. With `-` as the source, a tar"
    " archive on standard input is extracted into a directory of the volume; with `-` as the"
    " destination, standard output gets a tar archive.\n\n"
    "Example: pyswarm volume cp ./nginx.conf conf:/nginx.conf",
)
@click.option("-a", "--archive", is_flag=True, help="Archive mode (copy all uid/gid information)")
@click.option("-L", "--follow-link", is_flag=True, help="Always follow symbol link in SRC_PATH")
@click.option(
    "--node",
    default="",
    metavar="NODE",
    help="Of a volume with several copies: the node whose copy",
)
@click.option("-q", "--quiet", is_flag=True, help="Suppress progress output during copy")
@click.argument("source", metavar="VOLUME:SRC_PATH|SRC_PATH|-")
@click.argument("destination", metavar="VOLUME:DEST_PATH|DEST_PATH|-")
def cp(
    *, archive: bool, follow_link: bool, node: str, quiet: bool, source: str, destination: str
) -> None:
    here, there = place(source), place(destination)
    check(here, there)
    if there.is_stdio and sys.stdout.isatty():
        raise InvalidArgument("destination -: value is a terminal: redirect standard output")
    from cli.container.files import local
    from pyswarm_core.streams.requests import ReadVolumeRequest, WriteVolumeRequest

    if here.container:
        request = ReadVolumeRequest(
            ref=here.container, node=node, path=here.path, follow=follow_link
        )
        if there.is_stdio:
            output = sys.stdout.fileno()
            size = asyncio.run(local.to_descriptor(session.connect(), request, output))
        else:
            arrival = local.Arrival(here.path, there.path, keep=archive)
            size = asyncio.run(local.to_files(session.connect(), request, arrival))
    else:
        departure = local.Departure(here.path, keep=archive, follow=follow_link)
        asked = WriteVolumeRequest(
            ref=there.container,
            node=node,
            path=there.path,
            name=departure.name,
            directory=departure.is_directory,
            archive=departure.is_archive,
        )
        size = asyncio.run(local.from_files(session.connect(), asked, departure))
    if not quiet and not there.is_stdio and os.isatty(2):
        click.echo(f"Successfully copied {decimal_size(size)} to {destination}", err=True)


def check(here: Place, there: Place) -> None:
    """Raise InvalidArgument unless one end is a path in a volume."""
    if here.container and there.container:
        raise InvalidArgument(
            "copying between volumes is not supported: use `pyswarm volume cp A:PATH - | pyswarm"
            " volume cp - B:DIRECTORY`"
        )
    if not here.container and not there.container:
        raise InvalidArgument("must specify one volume: VOLUME:PATH")
    for one, name in ((here, "source"), (there, "destination")):
        if not one.path:
            text = f"{one.container}:" if one.container else ""
            raise invalid(name, text, "expected a path, or VOLUME:/PATH")
