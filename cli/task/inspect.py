"""`pyswarm task inspect`."""

from typing import Any

import click

from cli import flags, inspection, session
from cli.lazy import Verb
from pyswarm_core.docker import objects
from pyswarm_core.errors import NotFound, quoted


@click.command(
    cls=Verb,
    help="Display detailed information on one or more tasks\n\n"
    "Example: pyswarm task inspect web.1 --format '{{.Status.State}}'",
)
@flags.inspect_format
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
def inspect(*, form: str, tasks: tuple[str, ...]) -> None:
    client = session.connect()
    networks = inspection.Networks(client)

    def read(ref: str) -> dict[str, Any]:
        found = client.tasks(tasks=(ref,))
        if not found:
            raise NotFound(f"no such task: {quoted(ref)}")
        return objects.of_task(found[0], networks.addresses)

    inspection.inspect_all(tasks, form, read)
