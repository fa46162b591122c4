"""`pyswarm task restart`."""

import click

from cli import converge, flags, session
from cli.converge import Watched
from cli.failures import Failures
from cli.lazy import Verb


@click.command(
    cls=Verb,
    help="Shut down one or more tasks, whose slots get new tasks at once, and wait for their"
    " services to converge\n\nExample: pyswarm task restart web.1",
)
@flags.detach
@flags.quiet_progress
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
def restart(*, detach: bool, quiet: bool, tasks: tuple[str, ...]) -> None:
    client = session.connect()
    watched: dict[str, Watched] = {}
    with Failures() as failures:
        for ref in dict.fromkeys(tasks):
            with failures.collected():
                view = client.restart_task(ref)
                click.echo(ref)
                service_id = view.task.service_id
                watched[service_id] = Watched(service_id, view.service_name, while_paused=True)
        if watched and not detach:
            converge.until_converged(client, list(watched.values()), quiet=quiet)
