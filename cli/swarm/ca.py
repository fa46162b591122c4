"""`pyswarm swarm ca`."""

import click

from cli import session
from cli.lazy import Verb


@click.command(
    cls=Verb,
    help="Display the root CA certificate, in PEM\n\nExample: pyswarm swarm ca > pyswarm-ca.pem",
)
def ca() -> None:
    click.echo(session.connect().info().cluster.ca.certificate, nl=False)
