"""`pyswarm kill`."""

from contextlib import suppress
from signal import SIGKILL
from typing import TYPE_CHECKING

import click

from cli import session
from cli.failures import for_each
from cli.lazy import Verb
from cli.service.change import with_stopped
from pyswarm_core.errors import Conflict
from pyswarm_core.states import TaskState
from pyswarm_core.validation import require
from pyswarm_core.validation.container import signal_problems

if TYPE_CHECKING:
    from cli.client import Client

_KILL = ("KILL", "SIGKILL", str(int(SIGKILL)))


@click.command(
    cls=Verb,
    help="Kill one or more running containers\n\n"
    "A killed container stays stopped, as in Docker. After another signal, and for a task of a"
    " service, the restart policy decides what follows.\n\n"
    "Example: pyswarm kill --signal SIGHUP web.1",
)
@click.option(
    "-s",
    "--signal",
    "name",
    default="KILL",
    metavar="SIGNAL",
    help="Signal to send to the container (default KILL)",
)
@click.argument("containers", nargs=-1, required=True, metavar="CONTAINER...")
def kill(*, name: str, containers: tuple[str, ...]) -> None:
    require(list(signal_problems("--signal", name)))
    client = session.connect()
    for_each(dict.fromkeys(containers), lambda ref: _kill(client, ref, name))


def _kill(client: "Client", ref: str, name: str) -> None:
    from cli.container import calls

    named = calls.named(client, ref)
    task = named.task.task if named.task else None
    if named.is_service:
        tasks = client.tasks(services=(named.service.id,), filters=("state=running",))
        if len(tasks) != 1:
            text = f"service {ref} has {len(tasks)} running tasks: name one of them, as {ref}.1"
            raise Conflict(text)
        task = tasks[0].task
    if task is None or task.state not in (TaskState.STARTING, TaskState.RUNNING):
        raise Conflict(f"container {ref} is not running")
    if not named.is_container or name.upper() not in _KILL:
        client.signal_task(task.id, name)
        return
    # First: no policy restarts a container that its user stopped.
    with_stopped(client, named.service.id, stopped=True)
    with suppress(Conflict):  # it has ended meanwhile
        client.signal_task(task.id, name)
