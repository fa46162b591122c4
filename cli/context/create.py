"""`pyswarm context create`."""

import click
from msgspec.structs import replace

from cli import session
from cli.context import material as credentials
from cli.context import selection, store
from cli.context.model import Context, Material, checked, endpoint, require_name
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
    help="Create a context\n\nWithout an endpoint it has what commands use now: the current"
    " context, or PYSWARM_HOST and PYSWARM_TOKEN. With --user the key is made on this machine, and"
    " the current fleet issues the certificate: an admin makes the context and gives the file of"
    " `pyswarm context export` to the user.\n\n"
    "Example: pyswarm context create production --pyswarm host=192.0.2.10:2377,token=TOKEN",
)
@click.option("--description", default="", metavar="TEXT", help="Description of the context")
@endpoint_option
@click.option(
    "--from", "from_", default="", metavar="NAME", help="Create context from a named context"
)
@click.option(
    "--user", default="", metavar="USER", help="Issue a client certificate for a user of the fleet"
)
@click.argument("name", metavar="CONTEXT")
def create(
    *, description: str, endpoints: tuple[str, ...], from_: str, user: str, name: str
) -> None:
    require_name(name)
    if store.exists(name):
        raise AlreadyExists(f"context {quoted(name)} already exists")
    if from_ and (endpoints or user):
        other = "--docker" if endpoints else "--user"
        raise InvalidArgument(f"conflicting options: cannot specify both --from and {other}")
    made = given_endpoint(endpoints)
    if user:
        made = _of_user(user, made)
    made = made or (store.load(from_) if from_ else session.fleet())
    save(replace(made, name=name, description=description or made.description, playground=""))
    click.echo(name)
    click.echo(f'Successfully created context "{name}"', err=True)
    if not made.is_local and made.material == Material():
        from cli.context.credentials import missing

        click.echo(f"note: {missing(replace(made, name=name))}", err=True)


def _of_user(user: str, made: Context | None) -> Context:
    """A context with a new certificate of a user. Raises InvalidArgument if it has others."""
    if made is not None and made.material != Material():
        raise InvalidArgument("--user: expected no token, ca, cert or key in the endpoint")
    from cli.context.issuing import issued

    fleet, client = session.fleet(), session.connect()
    material = issued(client, user)
    if made is not None:
        host = made.host
    else:
        host = client.info().join_addr if fleet.is_local else fleet.host
    return Context(host=checked(host), material=material)


def given_endpoint(endpoints: tuple[str, ...]) -> Context | None:
    """The context of `--docker` or `--pyswarm`, with the files that it names."""
    return endpoint(FLAG, endpoints, lambda path: selection.file_text(FLAG, path))


def save(context: Context) -> None:
    """Check and store a context. Raises InvalidArgument."""
    credentials.require(context)
    cert = context.material.cert
    store.save(replace(context, renews_at=credentials.half_life(cert) if cert else 0))
