"""Frees a daemon's port that a task holds. SHELL over /proc.

A task on the network `host` can listen on a daemon's port while that daemon restarts. Without the
controller nobody could remove the service, so the daemon kills the task's container. A process
outside a task's container keeps its port.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pyswarm_core.aio.logs import EventLog
from pyswarm_core.ids import ID_ALPHABET, ID_LENGTH
from pyswarm_core.plaintext import split_lines

_log = EventLog("daemon.ports")

FREE_TIMEOUT_S = 5.0
_LISTENS = "0A"
"""The state of a listening socket in /proc/net/tcp."""


def take_back(port: int) -> bool:
    """Kill the containers of tasks that listen on the port in this network namespace. Return
    whether nobody listens there any more. Blocks until then, for FREE_TIMEOUT_S at most.
    """
    deadline = time.monotonic() + FREE_TIMEOUT_S
    while inodes := _listening(port):
        tasks = {task_of(_cgroups(pid)) for pid in _holders(inodes)}
        tasks -= {"", task_of(_cgroups(os.getpid()))}
        if not tasks or time.monotonic() > deadline:
            return False
        for task in sorted(tasks):
            _log.warning("port.taken_back", port=port, task=task)
        _kill(tasks)
        time.sleep(0.02)
    return True


def task_of(cgroups: str) -> str:
    """The id of the task whose container has these cgroups (/proc/PID/cgroup); "" if none has."""
    names = (name for line in split_lines(cgroups) for name in line.split("/")[1:])
    return next((n for n in names if len(n) == ID_LENGTH and set(n) <= set(ID_ALPHABET)), "")


def _listening(port: int) -> frozenset[str]:
    """The inodes of the sockets that listen on the port."""
    found = set()
    for table in ("tcp", "tcp6"):
        with suppress(FileNotFoundError):  # a kernel without IPv6
            for line in split_lines(Path(f"/proc/self/net/{table}").read_text())[1:]:
                fields = line.split()
                if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(f"socket:[{fields[9]}]")
    return frozenset(found)


def _holders(sockets: frozenset[str]) -> Iterator[int]:
    """The processes that have one of the sockets open."""
    for pid in _processes():
        with suppress(OSError):  # it has ended
            if any(_target(file) in sockets for file in Path(f"/proc/{pid}/fd").iterdir()):
                yield pid


def _target(file: Path) -> str:
    try:
        return str(file.readlink())
    except OSError:  # it is closed meanwhile
        return ""


def _kill(tasks: set[str]) -> None:
    """SIGKILL every process of the containers; the kernel kills what their PID 1 leaves."""
    for pid in _processes():
        if task_of(_cgroups(pid)) in tasks:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _cgroups(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:  # it has ended
        return ""


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
