"""`pyswarm compose wait`."""

import queue
import threading
from typing import TYPE_CHECKING

import click

from cli.compose import project
from cli.compose.verb import ProjectVerb
from cli.failures import Failures
from pyswarm_core.errors import Conflict, PyswarmError

if TYPE_CHECKING:
    from cli.client import Client
    from cli.compose.members import Held
    from cli.compose.project import Project

_Ended = tuple["Held", int | PyswarmError]


@click.command(
    "wait",
    cls=ProjectVerb,
    help="Block until containers of all (or specified) services stop, and exit with the code of the"
    " first one that did not end with 0\n\n"
    "With --down-project the first container that stops ends the project.\n\n"
    "Example: pyswarm compose wait migration",
)
@click.option("--down-project", is_flag=True, help="Drops project when the first container stops")
@click.argument("services", nargs=-1, required=True, metavar="SERVICE...")
def wait(*, down_project: bool, services: tuple[str, ...]) -> int:
    opened = project.opened()
    waited = opened.containers(services)
    if not waited:
        waited = opened.containers(services, every=True)
    if not waited:
        raise Conflict("no containers for project " + opened.name)
    ended: queue.Queue[_Ended] = queue.Queue()
    for one in waited:
        threading.Thread(target=_wait, args=(opened.client, one, ended), daemon=True).start()
    code = 0
    with Failures() as failures:
        for _ in waited:
            one, result = ended.get()
            with failures.collected():
                if isinstance(result, PyswarmError):
                    raise result
                click.echo(f"container {one.name} exited with code {result}")
                code = code or result
            if down_project:
                _down(opened)
                break
    return code


def _wait(client: "Client", one: "Held", ended: "queue.Queue[_Ended]") -> None:
    from cli.container.control import calls
    from cli.streams.resuming import resumed

    try:
        end = next(resumed(client, lambda: calls.wait(client, one.view.id)))
        ended.put((one, end.exit_code))
    except PyswarmError as error:
        ended.put((one, error))


def _down(opened: "Project") -> None:
    from cli.compose.lifecycle import removal

    removal.down(opened, removal.Down())
