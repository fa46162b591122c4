"""`pyswarm context create`."""

import click
from msgspec.structs import replace

from cli.context import material, selection, store
from cli.context.model import Context, endpoint, require_name
from cli.context.show import selected_name
from cli.lazy import Verb
from pyswarm_core.errors import AlreadyExists, InvalidArgument, quoted

FLAG = "--docker"
HELP = (
    "Endpoint: host=HOST:PORT, with token=TOKEN or with ca=FILE,cert=FILE,key=FILE; or"
    " host=unix:///PATH"
)

endpoint_option = click.option(
    "--docker", "--pyswarm", "endpoints", multiple=True, metavar="KEY=VALUE,...", help=HELP
)


@click.command(
    cls=Verb,
    help="Create a context\n\nWithout an endpoint it is a copy of the current context.\n\n"
    "Example: pyswarm context create production --pyswarm host=192.0.2.10:2377,token=TOKEN",
)
@click.option("--description", default="", metavar="TEXT", help="Description of the context")
@endpoint_option
@click.option(
    "--from", "from_", default="", metavar="NAME", help="Create context from a named context"
)
@click.argument("name", metavar="CONTEXT")
def create(*, description: str, endpoints: tuple[str, ...], from_: str, name: str) -> None:
    require_name(name)
    if store.exists(name):
        raise AlreadyExists(f"context {quoted(name)} already exists")
    if endpoints and from_:
        raise InvalidArgument("conflicting options: cannot specify both --from and --docker")
    made = given_endpoint(endpoints) or store.load(from_ or selected_name())
    save(replace(made, name=name, description=description or made.description, playground=""))
    click.echo(name)
    click.echo(f'Successfully created context "{name}"', err=True)


def given_endpoint(endpoints: tuple[str, ...]) -> Context | None:
    """The context of `--docker` or `--pyswarm`, with the files that it names."""
    return endpoint(FLAG, endpoints, lambda path: selection.file_text(FLAG, path))


def save(context: Context) -> None:
    """Check and store a context. Raises InvalidArgument."""
    material.require(context)
    store.save(context)
