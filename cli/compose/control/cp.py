"""`pyswarm compose cp`."""

import sys

import click

from cli.compose import project
from cli.compose.control.logs import INDEX
from cli.compose.verb import ProjectVerb
from cli.container.files.cp import check, place
from pyswarm_core.errors import InvalidArgument


@click.command(
    "cp",
    cls=ProjectVerb,
    help="Copy files/folders between a service container and the local filesystem\n\n"
    "Without --index files are copied out of the first container of the service, and into all of"
    " its containers. With `-` an archive is read from standard input, or written to standard"
    " output.\n\n"
    "Example: pyswarm compose cp ./seed.sql db:/tmp",
)
@click.option("--all", "every", is_flag=True, help="Include containers created by the run command")
@click.option("-a", "--archive", is_flag=True, help="Archive mode (copy all uid/gid information)")
@click.option("-L", "--follow-link", is_flag=True, help="Always follow symbol link in SRC_PATH")
@INDEX
@click.argument("source", metavar="SERVICE:SRC_PATH|SRC_PATH|-")
@click.argument("destination", metavar="SERVICE:DEST_PATH|DEST_PATH|-")
def cp(
    *,
    every: bool,
    archive: bool,
    follow_link: bool,
    index: int,
    source: str,
    destination: str,
) -> None:
    here, there = place(source), place(destination)
    check(here, there)
    if there.is_stdio and sys.stdout.isatty():
        raise InvalidArgument("destination -: value is a terminal: redirect standard output")
    opened = project.opened()
    from cli.container.files import local

    if here.container:
        one = opened.one(here.container, index, every=True, oneoff=every)
        arrival = None if there.is_stdio else local.Arrival(here.path, there.path, keep=archive)
        local.copy_out(opened.client, one.view.id, here.path, arrival, follow_link)
        return
    first = opened.one(there.container, index, every=True, oneoff=every)
    reached = [first]
    if not index and not here.is_stdio:
        reached = opened.containers((there.container,), oneoff=every) or reached
    for one in reached:
        departure = local.Departure(here.path, keep=archive, follow=follow_link)
        local.copy_in(opened.client, departure, one.view.id, there.path)
