"""`pyswarm service rm`."""

import click

from cli import converge, flags, session
from cli.converge import Watched
from cli.lazy import Verb
from pyswarm_core.errors import PyswarmError


@click.command(
    cls=Verb,
    help="Remove services and wait until their tasks have ended.\n\n"
    "Example: pyswarm service rm web db",
)
@flags.detach
@flags.quiet_progress
@click.argument("services", nargs=-1, required=True, metavar="SERVICE...")
def rm(*, detach: bool, quiet: bool, services: tuple[str, ...]) -> None:
    client = session.connect()
    removed, refused = [], []
    for ref in dict.fromkeys(services):
        try:
            service = client.remove_service(ref)
        except PyswarmError as error:
            refused.append(error)
            continue
        click.echo(ref)
        removed.append(Watched(service.id, service.spec.name))
    if removed and not detach:
        converge.until_gone(client, removed, quiet=quiet)
    if refused:
        raise type(refused[0])("; ".join(map(str, refused)))
