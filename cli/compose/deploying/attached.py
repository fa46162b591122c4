"""`up` without --detach: follows the output of services until they end. SHELL.

A thread prints the lines; the main one watches the containers. Ctrl-C stops the services, a second
one kills them, a third one ends the command at once.
"""

import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import click
import msgspec

from cli import session
from cli.compose import flags, project
from cli.compose.lifecycle import ending
from cli.compose.mapping import Files
from cli.errors import ConvergenceFailed, Interrupted
from cli.exits import ExitCode
from cli.failures import Failures
from cli.render.listing import one_line
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.clock import Instant
from pyswarm_core.docker.containers.views import ContainerState
from pyswarm_core.errors import PyswarmError

if TYPE_CHECKING:
    from cli.client import Client
    from cli.compose.members import Held, Member
    from cli.compose.project import Project

PERIOD_S = 0.5
"""How often the containers are looked at."""
_LAST_LINES_S = 1.0
"""How long lines of ended containers are printed."""
_ENDED = (ContainerState.EXITED, ContainerState.DEAD)


class Attached(msgspec.Struct, frozen=True, kw_only=True):
    """Which services are followed, and what ends that. Services as in the file."""

    shown: tuple[str, ...]
    """Those whose lines are printed."""
    watched: tuple[str, ...]
    """Those that were started: the command ends once all have ended."""
    is_plain: bool = False
    has_prefix: bool = True
    has_time: bool = False
    aborts: bool = False
    """The first container that ends stops all."""
    aborts_on_failure: bool = False
    """The first one that ends with another code than 0 does."""
    exit_code_from: str = ""
    timeout: str | None = None
    gone: frozenset[str] = frozenset()
    """Tasks that had ended before, and that others replace."""


class End(msgspec.Struct, frozen=True):
    """Why the command ends, and its exit code."""

    code: int
    of: str = ""
    """The container that ended; empty: all have."""


def now() -> Instant:
    """The time since which lines are printed."""
    return SystemClock().now()


def follow(client: "Client", files: Files, asked: Attached, since: Instant) -> int:
    """Print lines until the services have ended or Ctrl-C stops them; returns the exit code."""
    opened = project.of(client, files.name, files.loaded)
    names = ", ".join(f"{name}-{number}" for name, number in _replicas(opened, asked.shown))
    if names:
        click.echo(f"Attaching to {names}", err=True)
    over = _print_in_background(opened, asked, since)
    with _interrupts():
        try:
            end = _until_ended(opened, asked)
        except KeyboardInterrupt:
            return _interrupted(opened, asked)
        else:
            if end.of:
                click.echo(f"Aborting on container exit: {end.of}", err=True)
                _stop(opened, asked)
            time.sleep(_LAST_LINES_S)
            return end.code
        finally:
            over.set()


def end_of(found: "Iterable[Held]", asked: Attached) -> End | None:
    """Whether the command ends with these containers; None: it goes on. PURE."""
    watched = [one for one in found if one.number and one.service in asked.watched]
    ended = sorted(
        (one for one in watched if one.view.state in _ENDED), key=lambda one: one.view.since
    )
    for one in ended:
        failed = one.view.exit_code != 0
        if asked.aborts or (asked.aborts_on_failure and failed):
            return End(_code(watched, asked, one.view.exit_code), one.name)
    if watched and len(ended) == len(watched):
        return End(_code(watched, asked, 0))
    return None


def _code(watched: "Iterable[Held]", asked: Attached, otherwise: int) -> int:
    """The exit code of the service that is asked for; one that still runs has 137: it is killed at
    the latest.
    """
    if not asked.exit_code_from:
        return otherwise
    codes = [
        one.view.exit_code if one.view.state in _ENDED else 137
        for one in watched
        if one.service == asked.exit_code_from
    ]
    return max(codes, default=otherwise)


def _until_ended(opened: "Project", asked: Attached) -> End:
    last: End | None = None
    told = set[str]()
    while True:
        held = opened.containers(every=True)
        found = [one for one in held if one.view.task_id not in asked.gone]
        _tell_waiting(opened, found, asked, told)
        is_waiting = _waits(opened, found, asked)
        end = None if is_waiting else end_of(found, asked)
        if end is not None and (end.of or end == last):
            return end
        last = end
        _require_hope(opened, found, asked)
        time.sleep(PERIOD_S)


def _tell_waiting(
    opened: "Project", found: "Iterable[Held]", asked: Attached, told: set[str]
) -> None:
    """Print what containers wait for that do not run yet, each reason once."""
    waiting = {
        one.view.task_id: f"{one.service}-{one.number}"
        for one in found
        if one.service in asked.watched and one.view.state is ContainerState.CREATED
    }
    if not waiting or flags.is_quiet():
        return
    for view in opened.client.tasks(tasks=list(waiting)):
        reason = view.task.detail.error or view.task.detail.message
        line = f"{waiting.get(view.task.id, view.name)}: {reason}"
        if reason and line not in told:
            told.add(line)
            click.echo(one_line(line), err=True)


def _require_hope(opened: "Project", found: "Iterable[Held]", asked: Attached) -> None:
    """Raise ConvergenceFailed for a service that waits and cannot start: its image is missing, or
    what it depends on has failed.
    """
    for service_id, name in _created(found, asked).items():
        seen = next(opened.client.watch_service(service_id), None)
        if seen is None or not seen.failure:
            continue
        # A container that has run and failed meanwhile is no such service: it has an exit code.
        if service_id in _created(opened.containers(every=True), asked):
            raise ConvergenceFailed(f"service {name} cannot start: {seen.failure}")


def _created(found: "Iterable[Held]", asked: Attached) -> dict[str, str]:
    """The watched services that have a container which has not run yet, by id."""
    return {
        one.view.service_id: one.service
        for one in found
        if one.service in asked.watched
        and one.view.state is ContainerState.CREATED
        and one.view.task_id not in asked.gone
    }


def _waits(opened: "Project", found: "Iterable[Held]", asked: Attached) -> bool:
    """Whether a watched service has no container yet."""
    there = {one.service for one in found if one.number}
    started = {
        member.name for member in opened.members if getattr(member.service.spec.mode, "replicas", 1)
    }
    return any(name not in there for name in asked.watched if name in started)


def _print_in_background(opened: "Project", asked: Attached, since: Instant) -> threading.Event:
    """Print lines in a thread until the event that is returned is set."""
    from cli.compose.control.logs import print_logs, renderer
    from cli.render.loglines import Form
    from pyswarm_core.views import LogsQuery

    members = [member for member in opened.members if member.name in asked.shown]
    form = Form(timestamps=asked.has_time, prefix=asked.has_prefix, time_first=False)
    names = tuple(member.name for member in members)
    shown = renderer(opened, form, names, is_plain=asked.is_plain)
    query, over = LogsQuery("", follow=True, since=since), threading.Event()

    def run() -> None:
        try:
            print_logs(opened, query, [member.service.id for member in members], shown)
        except (PyswarmError, OSError) as error:
            if not over.is_set():
                click.echo(f"Error: {error}", err=True)

    if members:
        threading.Thread(target=run, daemon=True).start()
    return over


def _replicas(opened: "Project", names: Iterable[str]) -> Iterator[tuple[str, int]]:
    for member in opened.members:
        if member.name in names:
            for number in range(1, getattr(member.service.spec.mode, "replicas", 1) + 1):
                yield member.name, number


def _stop(opened: "Project", asked: Attached) -> None:
    """Stop the services that were started."""
    fresh = project.of(opened.client, opened.name, opened.loaded)
    ending.stopped(fresh, _members(fresh, asked), asked.timeout, quiet=True)


def _members(opened: "Project", asked: Attached) -> "list[Member]":
    return [member for member in opened.members if member.name in asked.watched]


def _reconnected(opened: "Project") -> "Project":
    """The project over a new connection: the interrupt may have ended a call in the middle, and
    another one on that connection would wait for its locks for ever.
    """
    return project.of(session.connect(), opened.name, opened.loaded)


def _interrupted(opened: "Project", asked: Attached) -> int:
    click.echo("Gracefully stopping... (press Ctrl+C again to force)", err=True)
    try:
        _stop(_reconnected(opened), asked)
        time.sleep(_LAST_LINES_S / 2)
    except (KeyboardInterrupt, Interrupted):
        click.echo("Killing...", err=True)
        fresh = _reconnected(opened)
        with Failures() as failures:
            ending.killed(fresh, _members(fresh, asked), "SIGKILL", failures)
    return ExitCode.INTERRUPTED


@contextmanager
def _interrupts() -> Iterator[None]:
    """In the block each of the first two interrupts raises KeyboardInterrupt; the third one ends
    the process.
    """
    count = 0
    before = signal.getsignal(signal.SIGINT)
    last = signal.getsignal(signal.SIGTERM)

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal count
        del frame
        count += 1
        if count == 2:
            signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, last)
