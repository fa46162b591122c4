"""How far an archive is, as a line on stderr. SHELL."""

import os
import sys
import time

from cli.render.listing import one_line
from pyswarm_core.docker.units import decimal_size

_EVERY_S = 0.2


class Progress:
    """Shows a line on a terminal, and nothing otherwise. Close it at the end."""

    def __init__(self, *, shown: bool) -> None:
        self.total = 0
        """Bytes; 0: not known."""
        self._shown = shown and os.isatty(2)
        self._began = self._due = time.monotonic()
        self._width = 0

    def at(self, count: int) -> None:
        """So many bytes have been copied."""
        now = time.monotonic()
        if not self._shown or now < self._due:
            return
        self._due = now + _EVERY_S
        self._put(line(count, self.total, now - self._began))

    def close(self) -> None:
        """Remove the line."""
        if self._width:
            self._put("")

    def _put(self, text: str) -> None:
        sys.stderr.write(f"\r{text.ljust(self._width)}" if text else f"\r{' ' * self._width}\r")
        sys.stderr.flush()
        self._width = len(text)


def warning(notice: str) -> str:
    """The line of a notice, which an agent wrote: no terminal obeys it."""
    return f"Warning: {one_line(notice)}"


def line(count: int, total: int, took_s: float) -> str:
    """`12.3MB of 45MB, 10MB/s`."""
    of = f" of {decimal_size(max(count, total))}" if total else ""
    speed = f", {decimal_size(int(count / took_s))}/s" if took_s > 0 else ""
    return f"{decimal_size(count)}{of}{speed}"
