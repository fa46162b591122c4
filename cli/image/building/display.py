"""The progress of a build on stderr. SHELL.

On a terminal a step is one line, with the end of its output beneath it while it runs; otherwise all
output is printed as it comes.
"""

import sys
import time
from collections import deque
from typing import Protocol

import click

from cli.image.building.transcript import Event, Kind, Step
from cli.render.listing import ellipsis, one_line
from cli.render.screen import Screen
from cli.render.terminal import width

_SHOWN = 6
_EVERY_S = 0.05


class Display(Protocol):
    """Shows what happens."""

    has_shown_output: bool
    """Whether the whole output of a step is on the screen."""

    def show(self, event: Event) -> None:
        """One line of the output."""

    def close(self, *, failed: bool) -> None:
        """The build ended."""


class Silent:
    """Of `--quiet`."""

    has_shown_output = False

    def show(self, event: Event) -> None:
        """Nothing."""

    def close(self, *, failed: bool) -> None:
        """Nothing."""


class Plain:
    """All lines, each step with its place in the file."""

    has_shown_output = True

    def __init__(self, file: str) -> None:
        self._file = file

    def show(self, event: Event) -> None:
        """Print the line."""
        if event.kind is Kind.STEP and event.step is not None:
            click.echo(header(event.step, self._file), err=True)
        elif event.kind is Kind.CACHED:
            click.echo("CACHED", err=True)
        elif event.kind is Kind.OUTPUT:
            click.echo(event.text, err=True)

    def close(self, *, failed: bool) -> None:
        """Nothing is held back."""


class Live:
    """Steps on a terminal."""

    has_shown_output = False

    def __init__(self, every_s: float = _EVERY_S) -> None:
        """It draws output at most once in that time."""
        self._every_s = every_s
        self._width = width()
        self._screen = Screen(self._width)
        self._step: Step | None = None
        self._is_cached = False
        self._began = 0.0
        self._drawn_at = 0.0
        self._tail: deque[str] = deque(maxlen=_SHOWN)

    def show(self, event: Event) -> None:
        """Draw the step again."""
        if event.kind is Kind.STEP:
            self._end(failed=False)
            self._step, self._began = event.step, time.monotonic()
            self._is_cached = False
            self._draw()
        elif event.kind is Kind.CACHED:
            self._is_cached = True
        elif event.kind is Kind.OUTPUT:
            self._tail.append(one_line(event.text.rpartition("\r")[2] or event.text))
            if time.monotonic() - self._drawn_at > self._every_s:
                self._draw()

    def close(self, *, failed: bool) -> None:
        """The last step ended."""
        self._end(failed=failed)

    def _draw(self) -> None:
        if self._step is None:
            return
        self._drawn_at = time.monotonic()
        lines = [self._line(), *(f"   {line}" for line in self._tail)]
        _write(self._screen.draw(lines))

    def _end(self, *, failed: bool) -> None:
        if self._step is None:
            return
        took = f"{time.monotonic() - self._began:.1f}s"
        result = "FAILED" if failed else "CACHED" if self._is_cached else took
        _write(self._screen.draw([self._line(result)]))
        self._screen = Screen(self._width)
        self._tail.clear()
        self._step = None

    def _line(self, result: str = "") -> str:
        assert self._step is not None
        text = one_line(f"[{self._step.label}] {self._step.text}")
        room = max(self._width - len(result) - 2, 10)
        return f"{ellipsis(text, room):<{room}} {result}".rstrip()


def display(mode: str, file: str, *, quiet: bool) -> Display:
    """That of `--progress` and `--quiet`."""
    if quiet:
        return Silent()
    if mode == "auto" and sys.stderr.isatty():
        return Live()
    return Plain(file)


def header(step: Step, file: str) -> str:
    """`[builder 3/5] RUN make (Dockerfile:7)`."""
    place = f" ({file}:{step.line})" if step.line else ""
    return f"[{step.label}] {step.text.strip()}{place}"


def _write(text: str) -> None:
    click.echo(text, err=True, nl=False)
