"""Exit codes. PURE; docs/cli.md has the same table, and a test compares them."""

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit code of every command."""

    SUCCESS = 0
    FAILURE = 1
    """Refused or failed: no such object, name already in use, no controller."""
    USAGE = 2
    """The command line or a value is not valid; nothing was changed."""
    UNFINISHED = 3
    """Accepted but not finished: the wait was interrupted or timed out."""
    CONVERGENCE_FAILED = 4
    """Accepted, but the service cannot converge: its tasks fail, or its update was paused or rolled
    back.
    """
    UNPLACED = 5
    """Accepted, but no node can take all tasks: the fleet has no room, or none satisfies the
    constraints.
    """
    BROKEN = 125
    """A stream to a task broke: the program's exit code is not known."""
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    """The reader of the output closed it."""
