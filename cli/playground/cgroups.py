"""The cgroups of a playground's hosts: their processes, and how to kill them all. SHELL over the
cgroup file systems.
"""

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cli.daemons import kill
from pyswarm_core.plaintext import split_lines

_MOUNTS = Path("/proc/self/mounts")
KILL_TIMEOUT_S = 10.0


def roots() -> list[Path]:
    """The mount points of all cgroup hierarchies, v1 and v2."""
    rows = [line.split(" ") for line in split_lines(_MOUNTS.read_text())]
    return [Path(row[1]) for row in rows if row[2] in ("cgroup", "cgroup2")]


def mount_all() -> None:
    """On a machine with cgroups v1 and v2, mount the controllers of v2 as v1.

    An agent does the same, but in its host's mount namespace, which this module does not see.
    """
    rows = [line.split(" ") for line in split_lines(_MOUNTS.read_text())]
    unified = [Path(row[1]) for row in rows if row[2] == "cgroup2"][:1]
    if not any(row[2] == "cgroup" for row in rows):
        return
    for name in (unified[0] / "cgroup.controllers").read_text().split() if unified else ():
        target = unified[0].parent / name
        target.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "cgroup", "-o", name, "none", target], check=True)


def make(path: str) -> tuple[Path, ...]:
    """Create a cgroup for daemons; return its cgroup.procs files.

    One hierarchy is enough to find a host's processes; it must be one without limits.
    """
    by_name = {root.name: root for root in roots()}
    chosen = [by_name[name] for name in ("unified", "cgroup", "systemd") if name in by_name][:1]
    directories = [root / path.lstrip("/") for root in chosen or roots()[:1]]
    for directory in directories:
        directory.mkdir(parents=True, exist_ok=True)
    return tuple(directory / "cgroup.procs" for directory in directories)


def processes(path: str) -> set[int]:
    """The processes in this cgroup and those below it, in all hierarchies."""
    found: set[int] = set()
    for directory in _directories(path):
        try:
            found.update(int(line) for line in (directory / "cgroup.procs").read_text().split())
        except (FileNotFoundError, OSError):
            continue
    found.discard(0)
    return found


def is_populated(path: str) -> bool:
    """Whether the cgroup, or one below it, has a process, also of another pid namespace."""
    for directory in _directories(path):
        with suppress(OSError):
            if (directory / "cgroup.procs").read_text().strip():
                return True
    return False


def kill_all(path: str) -> None:
    """Send SIGKILL to all processes below until none is left. Raises TimeoutError."""
    deadline = time.monotonic() + KILL_TIMEOUT_S
    while left := processes(path):
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"cgroup {path} has processes after {KILL_TIMEOUT_S:g} s: {sorted(left)}"
            )
        kill(left)
        time.sleep(0.02)


def remove(path: str) -> None:
    """Remove the cgroup and those below it in all hierarchies; they must have no processes.

    Raises OSError if one stays busy. A unified hierarchy is busy until a process has ended, but
    does not list it while it ends.
    """
    deadline = time.monotonic() + KILL_TIMEOUT_S
    for directory in _directories(path):
        while not _removed(directory):
            if time.monotonic() > deadline:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(directory))
            time.sleep(0.005)


def _removed(directory: Path) -> bool:
    try:
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


def _directories(path: str) -> Iterator[Path]:
    """The directories of a cgroup and those below it, the deepest first."""
    for root in roots():
        # Unlike rglob, it skips directories that an agent removes at the same time.
        for directory, _, _ in os.walk(root / path.lstrip("/"), topdown=False):
            yield Path(directory)
