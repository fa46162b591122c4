"""How `start`, `restart` and `run` start what a name means, and wait for it. SHELL.

A container is started once its process was started, even if that has ended since, as in Docker. A
service has to converge.
"""

from collections.abc import Callable, Mapping, Sequence

import click
from msgspec.structs import replace

from cli import converge
from cli.client import Client
from cli.container import calls
from cli.container.calls import Named
from cli.container.lifecycle.stopping import runs
from cli.container.lifecycle.watching import progress_of
from cli.converge import Watched
from cli.service.change import changed, with_stopped
from cli.service.spec.template import put
from pyswarm_core.errors import Conflict, NotFound
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.states import TaskState, is_terminal
from pyswarm_core.views import SlotProgress


def request(client: Client, named: Named) -> Watched | None:
    """Start a container or a stopped service; one that runs stays as it is.

    Raises Conflict for a task that has ended: its slot has another one.
    """
    service = named.service
    if named.task is not None and not named.is_container:
        if runs(named):
            return None
        reason = "its slot has a new task" if not service.spec.stopped else "its service is stopped"
        raise Conflict(f"task {named.task.name} cannot be started: {reason}")
    if not service.spec.stopped:
        if not named.is_container or runs(named):
            return None
        with_stopped(client, service.id, stopped=True)
    return Watched.of(with_stopped(client, service.id, stopped=False))


def wait(client: Client, watched: Sequence[Watched]) -> Mapping[str, str]:
    """Return when all are started; the reasons of those that could not be, by id."""
    reasons = {}
    services = []
    for one in watched:
        if not client.service(one.id).spec.mode.is_container:
            services.append(one)
        elif reason := until_started(client, one):
            reasons[one.id] = reason
    if services:
        converge.until_converged(client, services, quiet=True)
    return reasons


def until_started(
    client: Client,
    one: Watched,
    *,
    quiet: bool = False,
    placed: Callable[[], None] = lambda: None,
) -> str:
    """Wait until its process was started; returns why it could not be. Meanwhile prints on stderr
    what it waits for, and unless `quiet` that its image is pulled. `placed` is called whenever it
    is known to have a node.
    """
    told = set()
    for progress in progress_of(client, one.id):
        slot = progress.slots[0] if progress.slots else None
        if progress.running:
            return ""
        if progress.gone:  # with --rm it is, as soon as its task was rejected
            return _rejection(slot)
        if progress.completed or (slot is not None and is_terminal(slot.state)):
            if not _is_of(client, one):
                continue
            return _rejection(slot)
        if slot is not None and slot.state >= TaskState.ASSIGNED:
            placed()
        news = _news(slot, quiet=quiet) if slot else ""
        if news and news not in told:
            told.add(news)
            click.echo(f"{one.name}: {news}", err=True)
    return ""


def _rejection(slot: SlotProgress | None) -> str:
    return slot.error if slot is not None and slot.state is TaskState.REJECTED else ""


def _news(slot: SlotProgress, *, quiet: bool) -> str:
    """What its start waits for."""
    if slot.state <= TaskState.PENDING:
        return slot.message
    pulls = slot.state is TaskState.PREPARING and slot.message.startswith("pulling")
    return f"pulling its image on {slot.node}" if pulls and not quiet else ""


def _is_of(client: Client, one: Watched) -> bool:
    """Whether its newest task is of this start, and not the one before."""
    try:
        view = calls.named(client, one.id).task
    except NotFound:
        return True  # it has removed itself
    return view is None or view.task.spec_version >= one.spec_version


def attached(refs: Sequence[str], detach_keys: str | None, *, with_input: bool) -> int:
    """Start one container and attach to it until it ends; returns its exit code."""
    if len(refs) > 1:
        raise click.UsageError("you cannot start and attach multiple containers at once")
    from cli import session
    from cli.container import foreground
    from cli.streams import keys

    client = session.connect()
    named = calls.named(client, refs[0])
    if not named.is_container:
        raise Conflict(f"cannot attach to {refs[0]}: it is no container; use `pyswarm attach`")
    spec = named.service.spec.task_template.container_spec
    streams = foreground.Attached(
        stdin=with_input and spec.open_stdin,
        terminal=spec.tty,
        detach_keys=detach_keys or keys.DEFAULT,
    )
    if runs(named):
        raise Conflict(f"{refs[0]} runs already: use `pyswarm attach`")
    if not named.service.spec.stopped:
        with_stopped(client, named.service.id, stopped=True)
    latest = foreground.attach_by()

    def started(spec: ServiceSpec) -> ServiceSpec:
        running = replace(spec, stopped=False)
        return put(running, "task_template.container_spec.attach_by", latest)

    service = changed(client, named.service.id, started)
    return foreground.follow(client, service, streams)
