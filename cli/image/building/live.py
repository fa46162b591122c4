"""The progress of a build on a terminal: a step is one line, with the end of its output beneath it
while it runs. SHELL.
"""

import time
from collections import deque

import click

from cli.image.building.transcript import Event, Kind, Step
from cli.render.listing import ellipsis, one_line
from cli.render.screen import Screen
from cli.render.terminal import width

_SHOWN = 6
_EVERY_S = 0.05


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


def _write(text: str) -> None:
    click.echo(text, err=True, nl=False)
