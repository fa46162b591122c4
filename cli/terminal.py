"""The width of the terminal on which progress is drawn. SHELL."""

import os
import sys

DEFAULT_WIDTH = 80


def width() -> int:
    """Columns of the terminal of stderr; DEFAULT_WIDTH if it is none."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or DEFAULT_WIDTH
    except (OSError, ValueError):
        return DEFAULT_WIDTH
