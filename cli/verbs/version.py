"""`pyswarm version`."""

from typing import Any

import click

from cli import flags, session
from cli.lazy import Verb
from pyswarm_core import version as pyswarm
from pyswarm_core.docker import documents
from pyswarm_core.errors import PyswarmError


@click.command(
    cls=Verb,
    help="Show the version information of CLI and controller\n\n"
    "Example: pyswarm version --format '{{.Server.Version}}'",
)
@flags.inspect_format
def version(*, form: str) -> None:
    missing: PyswarmError | None = None
    server: dict[str, Any] = {}
    try:
        info = session.connect().info()
        server = {"Version": info.version, "Controller": info.controller}
    except PyswarmError as error:
        missing = error
    if form:
        for line in documents.show(
            [{"Client": {"Version": pyswarm.version()}, "Server": server}], form
        ):
            click.echo(line)
    else:
        click.echo(f"Client:\n Version:     {pyswarm.version()}")
        if server:
            click.echo(f"\nServer:\n Version:     {server['Version']}")
            click.echo(f" Controller:  {server['Controller']}")
    if missing is not None:
        raise missing
