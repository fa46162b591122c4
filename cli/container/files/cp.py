"""`pyswarm cp`."""

import os
import sys
from typing import NamedTuple

import click

from cli import session
from cli.lazy import Verb
from pyswarm_core.docker.units import decimal_size
from pyswarm_core.errors import InvalidArgument, invalid


class Place(NamedTuple):
    """One end of a copy. `container` is empty for a local path; `-` is stdin or stdout."""

    container: str
    path: str

    @property
    def is_stdio(self) -> bool:
        """Whether it is an archive on stdin or stdout."""
        return not self.container and self.path == "-"


def place(text: str) -> Place:
    """As in Docker: `CONTAINER:PATH`; local if it begins with `/` or `.`, or has no colon."""
    container, colon, path = text.partition(":")
    if not colon or text.startswith(("/", ".")):
        return Place("", text)
    return Place(container, path)


@click.command(
    cls=Verb,
    help="Copy files/folders between a container and the local filesystem\n\n"
    "The container need not run. With `-` as the source, a tar archive on standard input is"
    " extracted into a directory of the container; with `-` as the destination, standard output"
    " gets a tar archive.\n\n"
    "Example: pyswarm cp web.1:/etc/nginx ./nginx",
)
@click.option("-a", "--archive", is_flag=True, help="Archive mode (copy all uid/gid information)")
@click.option("-L", "--follow-link", is_flag=True, help="Always follow symbol link in SRC_PATH")
@click.option(
    "-q",
    "--quiet",
    is_flag=True,
    help="Suppress progress output during copy. Progress output is automatically suppressed if no"
    " terminal is attached",
)
@click.argument("source", metavar="CONTAINER:SRC_PATH|SRC_PATH|-")
@click.argument("destination", metavar="CONTAINER:DEST_PATH|DEST_PATH|-")
def cp(*, archive: bool, follow_link: bool, quiet: bool, source: str, destination: str) -> None:
    here, there = place(source), place(destination)
    check(here, there)
    if there.is_stdio and sys.stdout.isatty():
        raise InvalidArgument("destination -: value is a terminal: redirect standard output")
    from cli.container.files import local

    if here.container:
        arrival = None if there.is_stdio else local.Arrival(here.path, there.path, keep=archive)
        size = local.copy_out(session.connect(), here.container, here.path, arrival, follow_link)
    else:
        departure = local.Departure(here.path, keep=archive, follow=follow_link)
        size = local.copy_in(session.connect(), departure, there.container, there.path)
    if not quiet and not there.is_stdio and os.isatty(2):
        click.echo(f"Successfully copied {decimal_size(size)} to {destination}", err=True)


def check(here: Place, there: Place) -> None:
    """Raise InvalidArgument unless one end is in a container, and the other one is not."""
    if here.container and there.container:
        raise InvalidArgument(
            "copying between containers is not supported: use `pyswarm cp A:PATH - | pyswarm cp -"
            " B:DIRECTORY`"
        )
    if not here.container and not there.container:
        raise InvalidArgument("must specify at least one container source: CONTAINER:PATH")
    for one, name in ((here, "source"), (there, "destination")):
        if not one.path:
            text = f"{one.container}:" if one.container else ""
            raise invalid(name, text, "expected a path, or CONTAINER:PATH")
