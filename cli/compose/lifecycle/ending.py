"""How services of a project stop and go. SHELL.

Dependents end before what they depend on: the controller delays the stop of a service that others
need. With a grace period of its own, services stop one after the other.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from cli.compose import flags
from cli.compose.members import Member, in_order
from cli.compose.names import is_oneoff, of_project
from cli.converge import Watched, until_converged, until_gone
from cli.failures import Failures
from pyswarm_core.errors import Conflict, NotFound

if TYPE_CHECKING:
    from cli.client import Client
    from cli.compose.project import Project
    from cli.container.lifecycle.stopping import Stop

_KILL = ("KILL", "SIGKILL", "9")


def stopped(
    opened: "Project", members: Iterable[Member], timeout: str | None = None, *, quiet: bool = False
) -> None:
    """Stop the services, within so many seconds if given, and wait until they are."""
    from cli.container.lifecycle import watching
    from cli.container.lifecycle.stopping import Stop
    from cli.service.change import with_stopped

    client, stop = opened.client, Stop.of("", timeout)
    watched = []
    with Failures() as failures:
        for member in in_order(members, reverse=True):
            if member.service.spec.stopped:
                continue
            with failures.collected():
                if stop.timeout is not None:
                    _end_tasks(client, member, stop)
                service = with_stopped(client, member.service.id, stopped=True)
                watched.append(Watched.of(service))
                if stop.timeout is not None:
                    watching.until_stopped(client, watched[-1:])
        if watched:
            until_converged(client, watched, quiet=quiet or flags.is_quiet())


def killed(opened: "Project", members: Iterable[Member], signal: str, failures: Failures) -> None:
    """Send a signal to all containers. As in Compose no policy starts those that were killed again:
    their services are stopped.
    """
    from cli.service.change import with_stopped

    client = opened.client
    for member in in_order(members, reverse=True):
        with failures.collected():
            tasks = _running(client, member)
            if signal.upper() in _KILL:
                with_stopped(client, member.service.id, stopped=True)
            for task_id in tasks:
                with suppress(Conflict):  # it has ended meanwhile
                    client.signal_task(task_id, signal)


def removed(
    opened: "Project", members: Iterable[Member], failures: Failures, timeout: str | None = None
) -> None:
    """Remove services, within so many seconds if given, and wait until they are gone."""
    client = opened.client
    if timeout is not None:
        with failures.collected():
            stopped(opened, members, timeout)
    watched = []
    for member in in_order(members, reverse=True):
        with failures.collected(), suppress(NotFound):
            watched.append(Watched.of(client.remove_service(member.service.id)))
    if watched:
        until_gone(client, watched, quiet=flags.is_quiet())


def oneoffs_removed(opened: "Project", failures: Failures) -> None:
    """Remove the containers of `compose run`, with their anonymous volumes."""
    client = opened.client
    watched = []
    for summary in client.services((of_project(opened.name),)):
        if is_oneoff(summary.service.spec.labels) and not summary.service.removing:
            with failures.collected(), suppress(NotFound):
                gone = client.remove_service(summary.service.id, volumes=True)
                watched.append(Watched.of(gone))
    if watched:
        until_gone(client, watched, quiet=True)


def _running(client: "Client", member: Member) -> Sequence[str]:
    tasks = client.tasks(services=(member.service.id,), filters=("state=running",))
    return [view.task.id for view in tasks]


def _end_tasks(client: "Client", member: Member, stop: "Stop") -> None:
    for task_id in _running(client, member):
        with suppress(Conflict):  # it has ended meanwhile
            stop.end(client, task_id)
