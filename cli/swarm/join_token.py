"""`pyswarm swarm join-token`."""

import click

from cli import flags, session
from cli.lazy import Verb
from pyswarm_core.errors import invalid


@click.command(
    name="join-token",
    cls=Verb,
    help="Display the command that joins a host to the fleet\n\n"
    "Example: pyswarm swarm join-token worker",
)
@click.option("-q", "--quiet", is_flag=True, help="Only display token")
@click.argument("role", type=flags.Choice(["worker", "manager"]))
def join_token(*, quiet: bool, role: str) -> None:
    if role == "manager":
        raise invalid("ROLE", role, "managers cannot join yet: expected worker")
    client = session.connect()
    token = client.join_token()
    if quiet:
        click.echo(token)
        return
    info = client.info()
    click.echo("To add a worker to this swarm, run the following command:\n")
    click.echo(f"    pyswarm swarm join --token {token} {info.join_addr}\n")
