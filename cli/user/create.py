"""`pyswarm user create`."""

import click

from cli import flags, session
from cli.lazy import Verb
from pyswarm_core.docker import entries
from pyswarm_core.identity.users import Role, UserSpec
from pyswarm_core.validation import require, user_problems


@click.command(
    cls=Verb,
    help="Create a user\n\nIt identifies with a token (pyswarm user token) or with a client"
    " certificate (pyswarm context create --user).\n\n"
    "Example: pyswarm user create ci --role operator --stack web",
)
@click.option(
    "--role",
    type=flags.ROLE,
    required=True,
    help="Role: viewer (read), operator (and change services and networks) or admin",
)
@click.option(
    "--stack", multiple=True, metavar="STACK", help="Limit the user to the objects of this stack"
)
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="Set metadata on a user")
@click.argument("name")
def create(*, name: str, role: str, stack: tuple[str, ...], label: tuple[str, ...]) -> None:
    stacks = tuple(dict.fromkeys(stack))
    labels = entries.labels("--label", label)
    spec = UserSpec(name=name, role=Role(role), stacks=stacks, labels=labels)
    require(user_problems(spec))
    click.echo(session.connect().create_user(spec).id)
