"""The console script's first lines: Ctrl-C ends it silently while everything else is loaded. SHELL.

`cli/pyswarm` starts the interpreter with SIGINT blocked, because Python answers one with a
traceback until a program says otherwise.
"""

import os
import signal
import sys
from typing import NoReturn

_INTERRUPTED = 130


def _leave(*_: object) -> NoReturn:
    os._exit(_INTERRUPTED)


def main() -> NoReturn:
    """Load and run the command line."""
    signal.signal(signal.SIGINT, _leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            # A caller closed it; the next file opened gets its number.
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w"))
    # Text that the terminal's encoding lacks is shown escaped.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    from cli.main import main as run

    run()
