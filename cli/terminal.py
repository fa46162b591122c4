"""The terminal that progress is drawn on. SHELL."""

import os
import sys

DEFAULT_WIDTH = 80


def width() -> int:
    """Columns of the terminal behind stderr."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or DEFAULT_WIDTH
    except (OSError, ValueError):
        return DEFAULT_WIDTH
