"""Waits for services to converge and prints their progress on stderr. SHELL.

One thread per service watches it and puts its progress into one bounded queue. A watch reconnects:
a controller that restarts does not end a wait.
"""

import math
import queue
import sys
import threading
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Self

import click
import msgspec
from msgspec.structs import replace

from cli.errors import ConvergenceFailed, Interrupted, NotConverged, Unplaced
from cli.render.progress import Places, changes, key_of, lines, verdict
from cli.render.screen import Screen
from cli.render.terminal import width
from cli.streams.resuming import PAUSE_S, resumed
from pyswarm_core.clock import SECOND
from pyswarm_core.errors import NotFound
from pyswarm_core.objects import Service
from pyswarm_core.states import TaskState, UpdateState
from pyswarm_core.views import ServiceProgress

if TYPE_CHECKING:
    from cli.client import Client

_QUEUE = 100
NO_NODE = "no suitable node"
"""The beginning of the message of a task that no node can take."""
WAITS = "waits for "
"""The same of one that waits for what its service depends on."""
_TICK_S = 1.0
"""Period at which the time that is left is drawn again."""


class Watched(msgspec.Struct, frozen=True):
    """A service to wait for."""

    id: str
    name: str
    spec_version: int = 0
    """The spec that the wait is for; 0: whichever it has."""
    while_paused: bool = False
    """Whether the change can be complete while an update is paused: it was accepted then and did
    not resume it, or does not concern updates. The wait is for tasks of any version then.
    """

    @classmethod
    def of(cls, service: Service) -> Self:
        """The service as a change of it was answered."""
        status = service.update_status
        paused = status is not None and status.state.is_paused
        return cls(service.id, service.spec.name, service.spec_version, paused)


_Item = tuple[Watched, ServiceProgress | Exception]


def until_converged(
    client: "Client",
    services: Sequence[Watched],
    *,
    quiet: bool,
    timeout_s: float = 0.0,
    unplaced_s: float = 0.0,
) -> None:
    """Return when all of them have converged.

    Raises NotConverged when interrupted, or after `timeout_s` (0: never). Raises ConvergenceFailed
    if one cannot converge, or its update was paused or rolled back, once the others have. An update
    that was paused before only gets a notice. Raises Unplaced if the time is over while no node can
    take tasks, or after `unplaced_s` (0: never) in which that alone has held up all that are left.
    """
    display = _Display(services, quiet=quiet, removing=False)
    _wait(client, services, display, _Patience(timeout_s, unplaced_s))


def until_gone(client: "Client", services: Sequence[Watched], *, quiet: bool) -> None:
    """Return when all of them are removed. Raises NotConverged when interrupted."""
    _wait(client, services, _Display(services, quiet=quiet, removing=True))


class _Shown(msgspec.Struct, frozen=True):
    """The progress of a service on the screen."""

    prefix: str
    places: Places
    progress: ServiceProgress
    end: list[str]
    since: float
    """When it was received."""


class _Display:
    """Prints progress: redrawn on a terminal, each new line once in a pipe."""

    def __init__(self, services: Sequence[Watched], *, quiet: bool, removing: bool) -> None:
        self.removing = removing
        self._quiet = quiet
        self._several = len(services) > 1
        self._shown: dict[str, _Shown] = {}
        self._printed: dict[str, set[str]] = {service.id: set() for service in services}
        self._places = {service.id: Places() for service in services}
        self._screen = Screen(width()) if sys.stderr.isatty() else None

    def update(self, service: Watched, progress: ServiceProgress, *, done: bool) -> None:
        """Print the progress of one service."""
        if self._quiet:
            return
        prefix = f"{service.name}: " if self._several else ""
        end = [] if self.removing or not done else [verdict(progress, service.name)]
        if progress.is_paused and service.while_paused:
            progress, end = _of_any_version(progress), []
        if self._screen is not None:
            places = self._places[service.id]
            self._shown[service.id] = _Shown(prefix, places, progress, end, time.monotonic())
            self._draw(self._screen)
            return
        told = {key_of(line): line for line in changes(progress, removing=self.removing)}
        for line in [*(told[key] for key in told if key not in self._printed[service.id]), *end]:
            click.echo(prefix + line, err=True)
        self._printed[service.id] = set(told)

    def tick(self) -> None:
        """Draw again if a line shows a time."""
        if self._screen and any(shown.progress.stable_in for shown in self._shown.values()):
            self._draw(self._screen)

    def _draw(self, screen: Screen) -> None:
        drawn: list[str] = []
        for shown in self._shown.values():
            elapsed = int((time.monotonic() - shown.since) * SECOND)
            progress = replace(shown.progress, stable_in=max(0, shown.progress.stable_in - elapsed))
            found = lines(progress, removing=self.removing, places=shown.places)
            drawn += [shown.prefix + line for line in (*found, *shown.end)]
        click.echo(screen.draw(drawn), err=True, nl=False)


def _wait(
    client: "Client",
    services: Sequence[Watched],
    display: _Display,
    patience: "_Patience | None" = None,
) -> None:
    updates: queue.Queue[_Item] = queue.Queue(_QUEUE)
    patience = patience or _Patience()
    for service in services:
        arguments = (client, service, updates, display.removing)
        threading.Thread(target=_watch, args=arguments, daemon=True).start()
    waiting = {service.id for service in services}
    failures: list[str] = []
    notices: list[str] = []
    rollbacks: dict[str, str] = {}
    try:
        while waiting:
            service, item = _next(updates, display, patience)
            patience.take(service, item, waiting)
            if isinstance(item, NotFound) or (isinstance(item, ServiceProgress) and item.gone):
                _gone(service, display)
                waiting.discard(service.id)
                continue
            if isinstance(item, Exception):
                raise item
            if item.update_state == UpdateState.ROLLBACK_STARTED:
                rollbacks[service.id] = item.update_message
            ended = _has_ended(service, item, removing=display.removing)
            failure = _failure(service, item, rollbacks.get(service.id, "")) if ended else ""
            display.update(service, item, done=ended and not failure)
            if ended:
                waiting.discard(service.id)
                failures += [failure] if failure else []
                notices += [_still_paused(service, item)] if item.is_paused and not failure else []
    except KeyboardInterrupt:
        raise _interrupted(services, display) from None
    for notice in notices:
        click.echo(notice, err=True)
    if failures:
        raise ConvergenceFailed("; ".join(failures))


def _has_ended(service: Watched, progress: ServiceProgress, *, removing: bool) -> bool:
    """Whether the wait for the service ends with this, well or not."""
    if progress.gone or removing:
        return progress.gone
    if progress.converged or progress.failure:
        return True
    return progress.is_paused and (progress.filled or not service.while_paused)


def _next(updates: "queue.Queue[_Item]", display: _Display, patience: "_Patience") -> _Item:
    """The next item; meanwhile the display shows the time that is left. Raises as `_Patience`."""
    while True:
        try:
            return updates.get(timeout=min(_TICK_S, max(0.0, patience.left())))
        except queue.Empty:
            patience.check()
            display.tick()


class _Patience:
    """How long a wait may take in all, and while nothing but the lack of a node holds it up."""

    def __init__(self, timeout_s: float = 0.0, unplaced_s: float = 0.0) -> None:
        self._give_up_at = time.monotonic() + timeout_s if timeout_s else math.inf
        self._unplaced_s = unplaced_s or math.inf
        self._unplaced_since = math.inf
        self._reasons: dict[str, str] = {}
        """Why services have tasks without a node, by name."""
        self._held: dict[str, str] = {}
        """Services that nothing else holds up, beside services that wait for them."""

    def left(self) -> float:
        """Seconds until `check` may raise."""
        until = min(self._give_up_at, self._unplaced_since + self._unplaced_s)
        return until - time.monotonic()

    def take(
        self, service: Watched, item: ServiceProgress | Exception, waiting: Collection[str]
    ) -> None:
        """A service that has not ended has this progress."""
        reason, is_held = _unplaced(item) if isinstance(item, ServiceProgress) else ("", False)
        for told, value in ((self._reasons, reason), (self._held, "held" if is_held else "")):
            told.pop(service.name, None)
            if value:
                told[service.name] = value
        are_stuck = bool(self._reasons) and len(self._held) == len(waiting)
        since = min(self._unplaced_since, time.monotonic())
        self._unplaced_since = since if are_stuck else math.inf

    def check(self) -> None:
        """Raise Unplaced or NotConverged if the time is over."""
        if self.left() > 0:
            return
        if self._reasons:
            told = "; ".join(f"service {name}: {why}" for name, why in self._reasons.items())
            names = " ".join(self._reasons)
            raise Unplaced(f"{told}; the change continues, see `pyswarm why {names}`")
        raise NotConverged("no longer waiting: the time is over, and the change continues")


def _unplaced(progress: ServiceProgress) -> tuple[str, bool]:
    """Why a task has no node, if one has none; and whether all tasks that do not run wait for a
    node, or for services that may.
    """
    idle = [one.message for one in progress.slots if one.state is not TaskState.RUNNING]
    reason = next((one for one in idle if one.startswith(NO_NODE)), "")
    return reason, bool(idle) and all(one.startswith((NO_NODE, WAITS)) for one in idle)


def _failure(service: Watched, progress: ServiceProgress, reason: str) -> str:
    """Why the wait for the service, which ends, has failed; empty: it has not. `reason` is the
    message of the rollback while it went on.
    """
    name, state = service.name, progress.update_state
    if progress.converged:
        is_back = state == UpdateState.ROLLBACK_COMPLETED
        if is_back and 0 < service.spec_version < progress.update_to:
            return f"service {name} rolled back: {reason or progress.update_message}"
        return ""
    if progress.is_paused and not service.while_paused:
        return (
            f"service {name} {_kind(progress)} paused: {progress.update_message};"
            f" `pyswarm service update {name}` resumes it, see `pyswarm why {name}`"
        )
    if not progress.failure:
        return ""
    return (
        f"service {name} cannot converge: {progress.failure};"
        f" see `pyswarm service logs {name}` and `pyswarm why {name}`"
    )


def _of_any_version(progress: ServiceProgress) -> ServiceProgress:
    """The progress as it is shown while a paused update goes no further."""
    reached = progress.desired - progress.completed if progress.filled else progress.running
    return replace(progress, updated=reached)


def _still_paused(service: Watched, progress: ServiceProgress) -> str:
    name = service.name
    return f"{_kind(progress)} of {name} is still paused: pyswarm service update {name} resumes it"


def _kind(progress: ServiceProgress) -> str:
    return "rollback" if progress.update_state == UpdateState.ROLLBACK_PAUSED else "update"


def _gone(service: Watched, display: _Display) -> None:
    if not display.removing:
        raise NotFound(f"service {service.name} was removed during the wait")
    display.update(service, ServiceProgress(gone=True), done=True)


def _interrupted(services: Sequence[Watched], display: _Display) -> Interrupted:
    names = " ".join(service.name for service in services)
    if display.removing:
        return Interrupted(f"no longer waiting: the removal of {names} continues")
    return Interrupted(
        f"no longer waiting: the change continues, `pyswarm service ps {names}` shows its progress"
    )


def _watch(
    client: "Client",
    service: Watched,
    updates: "queue.Queue[_Item]",
    removing: bool,
) -> None:
    """Queue the progress until the wait for the service ends; the last item may be an error."""
    follow = removing or service.while_paused
    try:
        while True:
            for progress in resumed(
                client, lambda: client.watch_service(service.id, follow=follow)
            ):
                updates.put((service, progress))
                if _has_ended(service, progress, removing=removing):
                    return
            time.sleep(PAUSE_S)
    except Exception as error:  # the thread that waits raises it
        updates.put((service, error))
