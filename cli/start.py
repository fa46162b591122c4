"""The start of the console script: Ctrl-C ends it without a traceback during imports. SHELL.

`scripts/pyswarm` starts the interpreter with SIGINT blocked, because Python prints a traceback on
SIGINT until the program sets a handler.
"""

import gc
import os
import signal
import sys
from typing import NoReturn

_INTERRUPTED = 130
_YOUNG_OBJECTS = 100_000
"""Objects made between two collections of garbage. Those of imports live as long as the command:
Python's default, 700, looks at them again and again.
"""


def _leave(*_: object) -> NoReturn:
    os._exit(_INTERRUPTED)


def main() -> NoReturn:
    """Load and run the command line."""
    gc.set_threshold(_YOUNG_OBJECTS)
    signal.signal(signal.SIGINT, _leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            # The caller closed the stream; without this the next opened file would get its number.
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w"))
    # Characters that the terminal's encoding lacks are escaped.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    from cli.main import main as run

    run()
