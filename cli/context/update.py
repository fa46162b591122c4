"""`pyswarm context update`."""

import click
from msgspec.structs import replace

from cli.context import store
from cli.context.create import endpoint_option, given_endpoint, save
from cli.lazy import Verb


@click.command(
    cls=Verb,
    help="Update a context\n\nAn endpoint replaces the host and all credentials.\n\n"
    "Example: pyswarm context update production --description 'three hosts in Frankfurt'",
)
@click.option("--description", default="", metavar="TEXT", help="Description of the context")
@endpoint_option
@click.argument("name", metavar="CONTEXT")
def update(*, description: str, endpoints: tuple[str, ...], name: str) -> None:
    context = store.load(name)
    if made := given_endpoint(endpoints):
        context = replace(context, host=made.host, material=made.material)
    if description:
        context = replace(context, description=description)
    save(context)
    click.echo(name)
    click.echo(f'Successfully updated context "{name}"', err=True)
