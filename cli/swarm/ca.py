"""`pyswarm swarm ca`."""

import time
from typing import TYPE_CHECKING

import click

from cli import session
from cli.errors import NotConverged
from cli.lazy import Verb

if TYPE_CHECKING:
    from cli.client import Client
    from pyswarm_core.views import Ca

ROTATION_TIMEOUT_S = 600.0
_PAUSE_S = 0.2
_SHOWN = 10


@click.command(
    cls=Verb,
    help="Display and rotate the root CA\n\n"
    "During a rotation, which takes ten seconds at least, both roots are valid, and every host"
    " renews its certificate; no session ends. It goes on if this command is interrupted.\n\n"
    "Example: pyswarm swarm ca --rotate",
)
@click.option("--rotate", is_flag=True, help="Rotate the swarm CA")
@click.option("--status", is_flag=True, help="Display the progress of a rotation")
@click.option(
    "-d",
    "--detach",
    is_flag=True,
    help="Exit immediately instead of waiting for the rotation to complete",
)
@click.option("-q", "--quiet", is_flag=True, help="Suppress progress output")
def ca(*, rotate: bool, status: bool, detach: bool, quiet: bool) -> None:
    for flag, is_set in (("--detach", detach), ("--quiet", quiet)):
        if is_set and not rotate:
            raise click.UsageError(f"{flag} can only be used with --rotate")
    if status and rotate:
        raise click.UsageError("--status cannot be used with --rotate: it displays the progress")
    client = session.connect()
    found = client.rotate_ca() if rotate else client.ca()
    if status:
        for line in lines(found):
            click.echo(line)
        return
    if rotate and not detach:
        found = _wait(session.renewed(client), quiet=quiet)
    click.echo(found.certificate, nl=False)


def lines(found: "Ca") -> list[str]:
    """The progress in words."""
    done = found.nodes - len(found.left)
    ended = "complete" if found.was_rotated else "none"
    shown = [
        f"Root: {found.digest}",
        f"Rotation: {ended if found.is_finished else 'in progress'}",
        f"Renewed: {done} of {found.nodes} nodes",
    ]
    for title, names in (("Not yet renewed", found.left), ("Down, not renewed", found.down)):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            shown.append(f"{title}: {', '.join(names[:_SHOWN])}{more}")
    return shown


def _wait(client: "Client", *, quiet: bool) -> "Ca":
    """The CA once its rotation has ended. Raises NotConverged."""
    deadline = time.monotonic() + ROTATION_TIMEOUT_S
    shown = ""
    while not (found := client.ca()).is_finished:
        line = lines(found)[2]
        if not quiet and line != shown:
            click.echo(line, err=True)
            shown = line
        if time.monotonic() > deadline:
            raise NotConverged("the rotation goes on: " + "; ".join(lines(found)[1:]))
        time.sleep(_PAUSE_S)
    return found
