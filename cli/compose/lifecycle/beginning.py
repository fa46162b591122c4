"""How services of a project start and restart. SHELL.

Those that depend on others wait for them: the controller starts their tasks once the conditions
hold.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from cli.compose import flags
from cli.compose.lifecycle import ending
from cli.compose.members import Member, in_order
from cli.converge import Watched, until_converged
from cli.failures import Failures
from cli.service.change import changed, with_stopped
from cli.service.restart import restarted

if TYPE_CHECKING:
    from cli.client import Client
    from cli.compose.project import Project
    from pyswarm_core.objects import Service
    from pyswarm_core.specs import ServiceSpec


def started(opened: "Project", members: Iterable[Member]) -> None:
    """Start those that are stopped or have completed, and wait until all are started."""
    client = opened.client
    watched = []
    with Failures() as failures:
        for member in in_order(members):
            with failures.collected():
                if member.service.spec.stopped:
                    watched.append(Watched.of(_again(client, member)))
                elif not _has_tasks(client, member):
                    with_stopped(client, member.service.id, stopped=True)
                    watched.append(Watched.of(_again(client, member)))
        if watched:
            until_converged(client, watched, quiet=flags.is_quiet())


def restarted_all(
    opened: "Project", members: Iterable[Member], timeout: str | None, *, deps: bool
) -> None:
    """Restart services, also those that are stopped, and wait for them. With `deps` services whose
    `depends_on` says `restart: true` follow; with a timeout tasks have so many seconds to end.
    """
    client, found = opened.client, in_order(members)
    if timeout is not None:
        ending.stopped(opened, found, timeout, quiet=True)
    watched = []
    with Failures() as failures:
        for member in found:
            with failures.collected():
                if not deps and timeout is None and not member.service.spec.stopped:
                    watched += _tasks_restarted(client, member)
                elif timeout is not None or member.service.spec.stopped:
                    forced = deps and not member.service.spec.stopped
                    watched.append(Watched.of(_again(client, member, forced=forced)))
                else:
                    watched.append(Watched.of(restarted(client, member.service.id)))
        if watched:
            until_converged(client, watched, quiet=flags.is_quiet())


def _again(client: "Client", member: Member, *, forced: bool = False) -> "Service":
    """Start a stopped service; forced: as a restart, which dependents follow."""

    def running(spec: "ServiceSpec") -> "ServiceSpec":
        template = spec.task_template
        template = replace(template, force_update=template.force_update + forced)
        return replace(spec, stopped=False, task_template=template)

    return changed(client, member.service.id, running)


def _has_tasks(client: "Client", member: Member) -> bool:
    """Whether a task of the service runs or is about to."""
    filters = ("desired-state=running",)
    from pyswarm_core.states import is_terminal

    tasks = client.tasks(services=(member.service.id,), filters=filters)
    return any(not is_terminal(view.task.state) for view in tasks) or _waits(member)


def _waits(member: Member) -> bool:
    """Whether tasks of it wait for a node and do not exist yet."""
    return bool(member.summary.unlisted)


def _tasks_restarted(client: "Client", member: Member) -> list[Watched]:
    """Replace the running tasks without a new version of the service, which nobody follows."""
    service = member.service
    for view in client.tasks(services=(service.id,), filters=("state=running",)):
        client.restart_task(view.task.id)
    return [Watched(service.id, service.spec.name, while_paused=True)]
