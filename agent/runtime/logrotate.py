"""Rotation of container logs: `log`, `log.1` (newer) ... `log.N` (oldest). SHELL.

conmon itself replaces a log that would exceed its size, by an empty file of the same name: so the
log is bounded whatever the container writes, and while no agent runs. The agent keeps the replaced
files. It gives each current file a second name, `log.0`, by which the file outlives conmon's
replacement, and then moves the files to older names.

Invariants: a container has at most `max_file + 1` files of `max_size` bytes, the additional one
until the agent has moved them. Every line of those files is older than those that follow: what is
lost is the oldest, and the files that conmon replaced before the agent gave them a second name.
"""

import os
from contextlib import suppress
from pathlib import Path

from agent.runtime.base import LogLimits

DRIVER, SENT, REMOVED = ".driver", ".sent", ".removed"
"""Beside a log whose lines are sent somewhere: see `agent/logdrivers/forwarder.py`."""
PERIOD_S = 1.0
"""How often logs are checked of which no notification came."""
PAUSE_S = 0.005
"""Between two checks: a container that writes without a pause costs the agent little time."""


def rotated(log: Path, number: int) -> Path:
    """The path of the `number`th older file; 0 is the second name of the current one, or the file
    that it replaced, if that was not moved yet.
    """
    return log.with_name(f"{log.name}.{number}")


def is_kept(limits: LogLimits) -> bool:
    """Whether files are kept that conmon replaced."""
    return limits.stored and limits.max_size > 0 and limits.max_file > 1


def is_due(log: Path) -> bool:
    """Whether the current file has no second name yet."""
    current = inode(log)
    return current is not None and current != inode(rotated(log, 0))


def keep(log: Path, limits: LogLimits) -> None:
    """Move the files to older names if conmon replaced the log since the last call, dropping the
    oldest; give the current file its second name.
    """
    held = rotated(log, 0)
    if not is_due(log):
        return
    if held.exists():
        for number in range(limits.max_file - 2, -1, -1):
            with suppress(FileNotFoundError):
                rotated(log, number).replace(rotated(log, number + 1))
    with suppress(FileNotFoundError, FileExistsError):
        os.link(log, held)


def exceeds(log: Path, limits: LogLimits) -> bool:
    """Whether conmon does not limit the log: the conmon of an earlier version of the agent."""
    try:
        return log.stat().st_size > limits.max_size
    except FileNotFoundError:
        return False


def inode(path: Path) -> int | None:
    """The number of the file; None if there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def files(log: Path) -> tuple[Path, ...]:
    """The existing files of a log, the oldest first, each by one name."""
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
    held, current = inode(rotated(log, 0)), inode(log)
    between = (rotated(log, 0),) if held is not None and held != current else ()
    return (*reversed(older), *between, *(() if current is None else (log,)))


def remove(log: Path) -> None:
    """Remove the log and its older files; while its lines are being sent somewhere, request it."""
    driver, removed = (log.with_name(f"{log.name}{suffix}") for suffix in (DRIVER, REMOVED))
    if driver.exists():
        removed.touch()
        if driver.exists():
            return
    # Last the request: a restarted agent goes on.
    for path in (*files(log), rotated(log, 0), removed):
        path.unlink(missing_ok=True)
