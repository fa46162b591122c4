"""The terminal of stdin in raw mode, and its size. SHELL over termios."""

import os
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def raw(descriptor: int) -> Iterator[None]:
    """The block gets every key as it is typed, without echo and signals. Afterwards the terminal is
    as before, however the block ends.
    """
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        with suppress(termios.error):  # it is gone
            termios.tcsetattr(descriptor, termios.TCSANOW, before)


def size() -> tuple[int, int]:
    """Rows and columns of this process's terminal; zeros if it has none."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            found = os.get_terminal_size(stream.fileno())
            return found.lines, found.columns
    return 0, 0
