"""Starting the program of a created container, and detecting whether it ran. SHELL over /proc.

A program that the kernel refuses (of another architecture, a script whose interpreter is missing)
fails after the start: the container's first process is still the OCI runtime then, and ends.
"""

import os
import re
import time
from pathlib import Path

from agent.runtime import procs
from agent.runtime.procs import Process

_EXEC_TIMEOUT_S = 2.0
# The whole log when exec failed: the message of crun or runc, coloured on a terminal.
_REFUSED = re.compile(
    rb"\S+ std(?:err|out) F (?:\x1b\S+ )?"
    rb"(exec container process (?:\([^)]*\) )?`.*?|exec \S+: [a-z ]+)(?:\x1b\[0m)?\r?\n?"
)


def program(pid: int) -> tuple[int, int] | None:
    """The executable of a process, as device and inode; None if the process has ended."""
    try:
        status = Path(f"/proc/{pid}/exe").stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def let_go(fifo: Path) -> bool:
    """Write to the fifo that the container's process reads, as `crun start` does.

    False if no process reads it; then the OCI runtime's `start` gives the reason.
    """
    try:
        descriptor = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fifo.unlink()
        os.write(descriptor, b"\0")
    finally:
        os.close(descriptor)
    return True


def wait_for_program(process: Process, before: tuple[int, int] | None) -> bool:
    """Wait until the process runs another executable than `before`; False if it ended first."""
    deadline = time.monotonic() + _EXEC_TIMEOUT_S
    pause_s = 0.0003
    while time.monotonic() < deadline:
        now = program(process.pid)
        if now is None or not procs.is_alive(process):
            return False
        if now != before:
            return True
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.02)
    return True


def refused_program(log_path: Path) -> str:
    """The OCI runtime's message in the log of a container whose program never ran; else empty."""
    try:
        with log_path.open("rb") as opened:
            head = opened.read(4096)
    except FileNotFoundError:
        return ""
    found = _REFUSED.fullmatch(head)
    return found.group(1).decode(errors="replace") if found else ""
