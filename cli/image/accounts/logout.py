"""`pyswarm logout`."""

import os

import click

from cli.lazy import Verb


@click.command(
    cls=Verb,
    help="Log out from a registry, by default Docker Hub: logins of podman and skopeo end too\n\n"
    "Example: pyswarm logout registry.example.com:5000",
)
@click.argument("server", required=False)
def logout(*, server: str | None) -> None:
    from cli.image.accounts import files
    from cli.image.accounts.login import require_server

    where = require_server(server)
    paths = (*files.read_before(os.environ), files.path_of(os.environ))
    erased = [path for path in paths if files.erase(path, where)]
    if erased:
        click.echo(f"Removing login credentials for {files.key_of(where)}")
    else:
        click.echo(f"Not logged in to {where}")
