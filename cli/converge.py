"""Waits until services are what was asked, showing their progress on stderr. SHELL.

Each service is watched by a thread of its own; all of them feed one bounded queue. A lost
connection is taken up again: a controller that restarts does not end a wait.
"""

import queue
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
import msgspec

from cli.errors import GoalUnreachable, NoAnswer, NotConverged
from cli.render.progress import Screen, changes, lines, verdict
from cli.terminal import width
from pyswarm_core.errors import NotFound, PyswarmError, Unavailable
from pyswarm_core.views import ServiceProgress

if TYPE_CHECKING:
    from cli.client import Client

RECONNECT_S = 60.0
"""How long an unreachable controller is waited for."""
_PAUSE_S = 0.5
_QUEUE = 100


class Watched(msgspec.Struct, frozen=True):
    """A service that is waited for."""

    id: str
    name: str


_Item = tuple[Watched, ServiceProgress | PyswarmError]


def until_converged(client: "Client", services: Sequence[Watched], *, quiet: bool) -> None:
    """Return when all of them have converged.

    Raises NotConverged when interrupted, and GoalUnreachable when the others have converged if one
    will not.
    """
    _wait(client, services, _Display(services, quiet=quiet, removing=False))


def until_gone(client: "Client", services: Sequence[Watched], *, quiet: bool) -> None:
    """Return when nothing of them is left. Raises NotConverged when interrupted."""
    _wait(client, services, _Display(services, quiet=quiet, removing=True))


class _Display:
    """What was told so far, and to whom."""

    def __init__(self, services: Sequence[Watched], *, quiet: bool, removing: bool) -> None:
        self.removing = removing
        self._quiet = quiet
        self._several = len(services) > 1
        self._latest: dict[str, list[str]] = {}
        self._told: dict[str, set[str]] = {service.id: set() for service in services}
        self._screen = Screen(width()) if sys.stderr.isatty() else None

    def update(self, service: Watched, progress: ServiceProgress, *, done: bool) -> None:
        """Show one service's progress."""
        if self._quiet:
            return
        prefix = f"{service.name}: " if self._several else ""
        end = [verdict(progress)] if done and not self.removing else []
        if self._screen is not None:
            shown = lines(progress, removing=self.removing)
            self._latest[service.id] = [prefix + line for line in [*shown, *end]]
            drawn = [line for block in self._latest.values() for line in block]
            click.echo(self._screen.draw(drawn), err=True, nl=False)
            return
        for line in [*changes(progress, removing=self.removing), *end]:
            if line not in self._told[service.id]:
                click.echo(prefix + line, err=True)
        self._told[service.id] = set(changes(progress, removing=self.removing))


def _wait(client: "Client", services: Sequence[Watched], display: _Display) -> None:
    news: queue.Queue[_Item] = queue.Queue(_QUEUE)
    for service in services:
        threading.Thread(target=_watch, args=(client, service, news), daemon=True).start()
    waiting = {service.id for service in services}
    failures: list[str] = []
    try:
        while waiting:
            service, item = news.get()
            if isinstance(item, NotFound) or (isinstance(item, ServiceProgress) and item.gone):
                _gone(service, display)
                waiting.discard(service.id)
                continue
            if isinstance(item, PyswarmError):
                raise item
            done = item.converged and not display.removing
            display.update(service, item, done=done)
            failed = bool(item.failure) and not done and not display.removing
            if failed:
                failures.append(_failed(service, item))
            if done or failed:
                waiting.discard(service.id)
    except KeyboardInterrupt:
        raise _left(services, display) from None
    if failures:
        raise GoalUnreachable("; ".join(failures))


def _failed(service: Watched, progress: ServiceProgress) -> str:
    return (
        f"service {service.name} will not become what was asked: {progress.failure};"
        f" see `pyswarm service logs {service.name}` and `pyswarm why {service.name}`"
    )


def _gone(service: Watched, display: _Display) -> None:
    if not display.removing:
        raise NotFound(f"service {service.name!r} was removed by someone else meanwhile")
    display.update(service, ServiceProgress(gone=True), done=True)


def _left(services: Sequence[Watched], display: _Display) -> NotConverged:
    names = " ".join(service.name for service in services)
    if display.removing:
        return NotConverged(f"no longer waiting; the removal of {names} goes on")
    return NotConverged(
        f"no longer waiting; the fleet goes on with it: `pyswarm service ps {names}` shows how far"
    )


def _watch(client: "Client", service: Watched, news: "queue.Queue[_Item]") -> None:
    """Puts progress into the queue until the service converged, is gone or cannot be watched."""
    deadline = time.monotonic() + RECONNECT_S
    while True:
        try:
            for progress in client.watch_service(service.id):
                deadline = time.monotonic() + RECONNECT_S
                news.put((service, progress))
                if progress.converged or progress.gone or progress.failure:
                    return
        except Unavailable as error:
            if time.monotonic() > deadline or isinstance(error, NoAnswer):
                news.put((service, error))
                return
        except PyswarmError as error:
            news.put((service, error))
            return
        time.sleep(_PAUSE_S)
