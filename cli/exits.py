"""What an ending means to scripts. PURE; docs/cli.md holds the same table."""

from enum import IntEnum


class Exit(IntEnum):
    """The exit code of every command."""

    DONE = 0
    FAILED = 1
    """Refused or failed: no such object, name taken, no controller."""
    WRONG = 2
    """The command line or a value is wrong; nothing was changed."""
    UNFINISHED = 3
    """Accepted but not finished: waiting was interrupted, or no answer came in time."""
    UNREACHABLE_GOAL = 4
    """Accepted, but the service will not become what was asked: its tasks fail."""
    INTERRUPTED = 130
    NO_READER = 141
    """Whoever read the output went away."""
