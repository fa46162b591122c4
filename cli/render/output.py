"""Output of many lines. SHELL."""

from collections.abc import Iterable

import click

_WRITTEN = 4000
"""Characters of a write. A pipe takes 4,096 bytes whole, or none; the rest of a larger write would
be lost when a signal interrupts it and Python does not buffer output (PYTHONUNBUFFERED).
"""


def echo_lines(lines: Iterable[str]) -> None:
    """Print the lines with few writes: `click.echo` flushes each of its own."""
    waiting: list[str] = []
    size = 0
    for line in lines:
        size += len(line) + 1
        if waiting and size > _WRITTEN:
            click.echo("\n".join(waiting))
            waiting, size = [], len(line) + 1
        waiting.append(line)
    if waiting:
        click.echo("\n".join(waiting))
