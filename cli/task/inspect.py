"""`pyswarm task inspect`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from cli import flags, inspection, session
from cli.lazy import Verb
from pyswarm_core.docker import objects
from pyswarm_core.errors import NotFound, PyswarmError, quoted
from pyswarm_core.views import TaskCheck, TaskView

if TYPE_CHECKING:
    from cli.client import Client


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
        return objects.of_task(found[0], networks.addresses, checks_of(client, found[0]))

    inspection.inspect_all(tasks, form, read)


def checks_of(client: "Client", view: TaskView) -> Sequence[TaskCheck]:
    """The checks as the task's agent has them; without its answer none, and a warning."""
    task = view.task
    has_readiness = view.spec is not None and view.spec.container_spec.readiness.test
    if not task.node_id or not (task.detail.health or has_readiness):
        return ()
    try:
        return client.task_checks(task.id)
    except PyswarmError as error:
        click.echo(f"warning: the results of checks of {view.name} are missing: {error}", err=True)
        return ()
