"""Rotation of container logs: `log`, `log.1` (newer) ... `log.N` (oldest). SHELL.

Invariant: no line is lost while the agent runs: conmon writes to the renamed file until the agent
has it open a new one, and only the oldest file is removed.
"""

from contextlib import suppress
from pathlib import Path

from agent.runtime.base import LogLimits

PERIOD_S = 1.0


def rotated(log: Path, number: int) -> Path:
    """The path of the `number`th older file; 0 is the current one."""
    return log.with_name(f"{log.name}.{number}") if number else log


def is_due(log: Path, limits: LogLimits) -> bool:
    """Whether to rotate the log now. conmon itself limits the size of a log of a single file."""
    if limits.max_size <= 0 or limits.max_file <= 1:
        return False
    try:
        return log.stat().st_size >= limits.max_size
    except FileNotFoundError:
        return False


def rotate(log: Path, limits: LogLimits) -> None:
    """Rename each file to the next older name, dropping the oldest. conmon must reopen the log."""
    for number in range(limits.max_file - 2, -1, -1):
        with suppress(FileNotFoundError):
            rotated(log, number).replace(rotated(log, number + 1))


def files(log: Path) -> tuple[Path, ...]:
    """The existing files of a log, the oldest first."""
    older: list[Path] = []
    number = absent = 0
    # During a rotation one name is missing.
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
    """Remove the log and its older files."""
    for path in files(log):
        path.unlink(missing_ok=True)
