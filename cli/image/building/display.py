"""The progress of a build on stderr. SHELL.

On a terminal it is drawn (`live.py`); otherwise all output is printed as it comes.
"""

import sys
from typing import Protocol

import click

from cli.image.building.transcript import Event, Kind, Step


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


def display(mode: str, file: str, *, quiet: bool) -> Display:
    """That of `--progress` and `--quiet`."""
    if quiet:
        return Silent()
    if mode == "auto" and sys.stderr.isatty():
        from cli.image.building.live import Live

        return Live()
    return Plain(file)


def header(step: Step, file: str) -> str:
    """`[builder 3/5] RUN make (Dockerfile:7)`."""
    place = f" ({file}:{step.line})" if step.line else ""
    return f"[{step.label}] {step.text.strip()}{place}"
