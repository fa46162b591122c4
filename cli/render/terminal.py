"""The sizes of the terminals of stderr and stdout, and the line about a long wait. SHELL."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from shutil import get_terminal_size

import click

ANNOUNCE_AFTER_S = 1.0
"""A wait that takes longer is announced."""

DEFAULT_WIDTH = 80
DEFAULT_HEIGHT = 24


def width() -> int:
    """Columns of the terminal of stderr; DEFAULT_WIDTH if it is none."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or DEFAULT_WIDTH
    except (OSError, ValueError):
        return DEFAULT_WIDTH


def size_of_stdout() -> tuple[int, int]:
    """Columns and lines of the terminal of stdout."""
    size = get_terminal_size((DEFAULT_WIDTH, DEFAULT_HEIGHT))
    return size.columns, size.lines


@contextmanager
def announced(line: str) -> Iterator[None]:
    """Print after a second what the block waits for."""
    timer = threading.Timer(ANNOUNCE_AFTER_S, click.echo, (line,), {"err": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
