"""`pyswarm user update`."""

from typing import Any

import click
from msgspec.structs import replace

from cli import flags, session
from cli.lazy import Verb
from pyswarm_core.docker import entries
from pyswarm_core.errors import Conflict
from pyswarm_core.identity.users import Role, UserSpec
from pyswarm_core.kinds import USER
from pyswarm_core.validation import require, user_problems


@click.command(
    cls=Verb,
    help="Update a user\n\nExample: pyswarm user update --role viewer --stack-add web ci",
)
@click.option("--role", type=flags.ROLE, help="Role: viewer, operator or admin")
@click.option("--stack-add", multiple=True, metavar="STACK", help="Add a stack of the user")
@click.option("--stack-rm", multiple=True, metavar="STACK", help="Remove a stack of the user")
@click.option("--label-add", multiple=True, metavar="KEY=VALUE", help="Add or update a user label")
@click.option("--label-rm", multiple=True, metavar="KEY", help="Remove a user label if it exists")
@click.argument("user")
def update(*, user: str, **given: Any) -> None:
    if not any(given.values()):
        raise click.UsageError("nothing to update: specify at least one flag")
    entries.labels("--label-add", given["label_add"])
    client = session.connect()
    found = client.object(USER, user)
    try:
        client.update_user(found, changed(found.spec, given))
    except Conflict:
        found = client.object(USER, found.id)
        client.update_user(found, changed(found.spec, given))
    click.echo(user)


def changed(spec: UserSpec, given: dict[str, Any]) -> UserSpec:
    """The spec changed by the flags. Raises InvalidArgument.

    A user that loses its last stack would see all objects: that takes `--stack-rm` of all of them
    and `--role`, so that it is no slip.
    """
    stacks = [stack for stack in spec.stacks if stack not in given["stack_rm"]]
    stacks += [stack for stack in given["stack_add"] if stack not in stacks]
    if spec.stacks and not stacks and not given["role"]:
        raise click.UsageError(
            "--stack-rm: the user would have no stack left and see all objects: if it should,"
            f" specify --role {spec.role} as well"
        )
    labels = {key: value for key, value in spec.labels.items() if key not in given["label_rm"]}
    labels |= entries.labels("--label-add", given["label_add"])
    role = Role(given["role"] or spec.role)
    spec = replace(spec, role=role, stacks=tuple(stacks), labels=labels)
    require(user_problems(spec))
    return spec
