"""`pyswarm swarm join-token`."""

from typing import Any

import click

from cli import flags, session
from cli.lazy import Verb
from pyswarm_core.errors import invalid


class _Role(flags.Choice):
    """`worker`; Docker's `manager` is refused with what to do instead."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See click."""
        if value == "manager":
            raise invalid(
                "ROLE",
                value,
                "expected worker: a further controller is started on the same etcd, with a copy of"
                " the encryption key (docs/security.md#the-key-file)",
            )
        return super().convert(value, param, ctx)


@click.command(
    name="join-token",
    cls=Verb,
    help="Display the command that joins a host to the fleet\n\n"
    "Example: pyswarm swarm join-token worker",
)
@click.option("--rotate", is_flag=True, help="Rotate join token")
@click.option("-q", "--quiet", is_flag=True, help="Only display token")
@click.argument("role", type=_Role(["worker"]), metavar="worker")
def join_token(*, rotate: bool, quiet: bool, role: str) -> None:
    del role  # worker
    client = session.connect()
    token = client.rotate_join_token() if rotate else client.join_token()
    if rotate and not quiet:
        click.echo("Successfully rotated worker join token.\n")
    if quiet:
        click.echo(token)
        return
    info = client.info()
    click.echo("To add a worker to this swarm, run the following command:\n")
    click.echo(f"    pyswarm swarm join --token {token} {info.join_addr}\n")
