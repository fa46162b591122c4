"""`pyswarm rename`."""

import click

from cli.lazy import Verb


@click.command(
    cls=Verb,
    help="Rename a container\n\nExample: pyswarm rename db old-db",
)
@click.argument("container")
@click.argument("new_name")
def rename(*, container: str, new_name: str) -> None:
    from msgspec.structs import replace

    from cli import session
    from cli.container import calls
    from cli.service.change import changed
    from pyswarm_core.errors import Conflict, InvalidArgument

    client = session.connect()
    named = calls.named(client, container)
    name = named.service.spec.name
    if not named.is_container:
        raise Conflict(f'cannot rename "{name}": names of services do not change')
    if new_name == name:
        raise Conflict("Renaming a container with the same name as its current name")
    try:
        changed(client, named.service.id, lambda spec: replace(spec, name=new_name))
    except InvalidArgument as error:
        raise InvalidArgument(str(error).replace("--name:", "NEW_NAME:", 1)) from None
