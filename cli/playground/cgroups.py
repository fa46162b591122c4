"""The playground's cgroups: who belongs to a host, and how a host loses power. SHELL over the
cgroup file systems.
"""

import errno
import os
import subprocess
import time
from collections.abc import Iterator
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
    """Mount the v1 controllers that a machine with v1 and v2 left on v2.

    An agent does so too, but in its host's mount namespace, where this module would not see them.
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
    """Make one cgroup where it can hold daemons; return the files that take pids.

    One hierarchy is enough to tell a process's host; it must be one that limits nothing here.
    """
    by_name = {root.name: root for root in roots()}
    chosen = [by_name[name] for name in ("unified", "cgroup", "systemd") if name in by_name][:1]
    directories = [root / path.lstrip("/") for root in chosen or roots()[:1]]
    for directory in directories:
        directory.mkdir(parents=True, exist_ok=True)
    return tuple(directory / "cgroup.procs" for directory in directories)


def processes(path: str) -> set[int]:
    """Every process in this cgroup or below it, in any hierarchy."""
    found: set[int] = set()
    for directory in _directories(path):
        try:
            found.update(int(line) for line in (directory / "cgroup.procs").read_text().split())
        except (FileNotFoundError, OSError):
            continue
    found.discard(0)
    return found


def kill_all(path: str) -> None:
    """SIGKILL everyone below until nobody is left. Raises TimeoutError."""
    deadline = time.monotonic() + KILL_TIMEOUT_S
    while left := processes(path):
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes of cgroup {path} do not end: {sorted(left)}")
        kill(left)
        time.sleep(0.02)


def remove(path: str) -> None:
    """Remove the cgroup and all below it in every hierarchy; nobody may be left in it.

    Raises OSError if it stays busy: a unified hierarchy does not list a process that is ending, and
    is busy until it has ended.
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
    """Deepest first."""
    for root in roots():
        # Unlike rglob, it passes over what an agent removes meanwhile.
        for directory, _, _ in os.walk(root / path.lstrip("/"), topdown=False):
            yield Path(directory)
