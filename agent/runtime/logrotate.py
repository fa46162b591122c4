"""Rotation of container logs: `log`, `log.1` (newer) ... `log.N` (oldest). SHELL.

Invariant: nothing is lost while the agent runs: conmon goes on writing to the renamed file until it
has been told to open a new one, and only the oldest file is ever removed.
"""

from contextlib import suppress
from pathlib import Path

from agent.runtime.base import LogLimits

PERIOD_S = 1.0


def rotated(log: Path, number: int) -> Path:
    """The name of the `number`th older file; 0 is the current one."""
    return log.with_name(f"{log.name}.{number}") if number else log


def is_due(log: Path, limits: LogLimits) -> bool:
    """Whether the log is to be rotated now. conmon itself keeps a log of a single file short."""
    if limits.max_size <= 0 or limits.max_file <= 1:
        return False
    try:
        return log.stat().st_size >= limits.max_size
    except FileNotFoundError:
        return False


def rotate(log: Path, limits: LogLimits) -> None:
    """Rename each file to the next older name, dropping the oldest; conmon must reopen then."""
    for number in range(limits.max_file - 2, -1, -1):
        with suppress(FileNotFoundError):
            rotated(log, number).replace(rotated(log, number + 1))


def files(log: Path) -> tuple[Path, ...]:
    """The files of a log that are there, the oldest first."""
    older: list[Path] = []
    number = absent = 0
    # In the middle of a rotation one name is missing.
    while absent < 2:
        number += 1
        path = rotated(log, number)
        if path.exists():
            older.append(path)
            absent = 0
        else:
            absent += 1
    return (*reversed(older), *((log,) if log.exists() else ()))


def remove(log: Path) -> None:
    """Remove the log with all its older files."""
    for path in files(log):
        path.unlink(missing_ok=True)
