"""Follows moves of volumes and prints their progress on stderr. SHELL.

The moves are the leader's: the program that follows them may end at any time.
"""

import sys
import time
from collections.abc import Iterator, Sequence

import click

from cli.client import Client
from cli.errors import NotConverged
from cli.render.moves import line_of, phase_of
from cli.render.screen import Screen
from cli.render.terminal import width
from cli.streams.resuming import resumed
from cli.volume import calls
from pyswarm_core.errors import PyswarmError
from pyswarm_core.volumes.moves import VolumeMove

POLL_S = 1.0
START_S = 60.0
"""Time to wait for tasks after a move. Their data is there by then."""


class MoveFailed(PyswarmError):
    """A volume stayed where it was."""


def follow(client: Client, begun: Sequence[VolumeMove], to: str, *, quiet: bool) -> None:
    """Return once the volumes have moved and their tasks run again, for which it waits START_S.

    Raises MoveFailed, and NotConverged when interrupted.
    """
    display = _Display(quiet=quiet)
    refs = [one.id for one in begun]
    names = " ".join(one.name for one in begun)
    moved_at = 0.0
    try:
        for found in resumed(client, lambda: _polls(client, refs)):
            display.show(found)
            if any(one.phase for one in found):
                continue
            _require_moved(found)
            moved_at = moved_at or time.monotonic()
            if all(one.running >= one.desired for one in found):
                return
            if time.monotonic() - moved_at > START_S:
                _tell_waiting(found)
                return
    except KeyboardInterrupt:
        raise NotConverged(
            f"no longer waiting: the move continues. Follow it with `pyswarm volume move {names}"
            f" --to {to}`, cancel it with `pyswarm volume move --cancel {names}`"
        ) from None


def _polls(client: Client, refs: Sequence[str]) -> Iterator[list[VolumeMove]]:
    while True:
        yield calls.moves(client, refs)
        time.sleep(POLL_S)


def _require_moved(found: Sequence[VolumeMove]) -> None:
    failed = [one for one in found if one.failure]
    if failed:
        told = [f"volume {one.name} stayed on {one.source}: {one.failure}" for one in failed]
        raise MoveFailed("; ".join(told))


def _tell_waiting(found: Sequence[VolumeMove]) -> None:
    for one in found:
        if one.running < one.desired:
            missing = f"{one.running} of {one.desired} tasks run"
            click.echo(f"warning: volume {one.name} has moved; {missing}: pyswarm why", err=True)


class _Display:
    """Redrawn on a terminal; each new phase once in a pipe."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._screen = Screen(width()) if sys.stderr.isatty() else None
        self._told: dict[str, str] = {}

    def show(self, found: Sequence[VolumeMove]) -> None:
        """Print the progress of all of them."""
        if self._quiet:
            return
        if self._screen is not None:
            drawn = self._screen.draw([line_of(one) for one in found])
            click.echo(drawn, err=True, nl=False)
            return
        for one in found:
            if self._told.get(one.id) != phase_of(one):
                self._told[one.id] = phase_of(one)
                click.echo(line_of(one), err=True)
