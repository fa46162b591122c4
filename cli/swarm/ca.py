"""`pyswarm swarm ca`."""

import time
from typing import TYPE_CHECKING

import click

from cli import flags, session
from cli.errors import NotConverged
from cli.lazy import Verb
from pyswarm_core.errors import InvalidArgument

if TYPE_CHECKING:
    from cli.client import Client
    from pyswarm_core.views import Ca

ROTATION_TIMEOUT_S = 600.0
_PAUSE_S = 0.2
_SHOWN = 10


@click.command(
    cls=Verb,
    help="Display and rotate the root CA\n\n"
    "During a rotation both roots are valid, and every host renews its certificate; no session"
    " ends. It goes on if this command is interrupted.\n\n"
    "Example: pyswarm swarm ca --rotate",
)
@click.option("--rotate", is_flag=True, help="Rotate the swarm CA")
@click.option("--status", is_flag=True, help="Display the progress of a rotation")
@click.option("--external-ca", hidden=True)
@flags.detach
@click.option("-q", "--quiet", is_flag=True, help="Suppress progress output")
def ca(*, rotate: bool, status: bool, external_ca: str | None, detach: bool, quiet: bool) -> None:
    if external_ca is not None:
        raise InvalidArgument(
            "--external-ca is not supported: the controller signs all certificates with the fleet's"
            " own CA (`pyswarm swarm ca` prints its root)"
        )
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
    state = "complete" if found.is_finished else "in progress"
    shown = [
        f"Root: {found.digest}",
        f"Rotation: {state}",
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
