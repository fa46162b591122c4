"""Pausing all processes of a cgroup. SHELL over cgroup v2's freezer, or v1's where there is no v2.

v2's freezer is preferred: SIGKILL ends a process in it at once, in v1's only when it is thawed.
"""

import time
from contextlib import suppress
from pathlib import Path

from agent.runtime.base import RuntimeFailed
from agent.runtime.cgroups import Hierarchies

_FREEZE_TIMEOUT_S = 10.0
_PAUSE_S = 0.0005


def freeze(hierarchies: Hierarchies, path: str) -> None:
    """Return once every process of cgroup `path` is frozen.

    Raises RuntimeFailed after ten seconds (a process hangs in the kernel); then all are thawed.
    """
    deadline = time.monotonic() + _FREEZE_TIMEOUT_S
    pause_s = _PAUSE_S
    while not _has_frozen(hierarchies, path):
        if time.monotonic() > deadline:
            thaw(hierarchies, path)
            raise RuntimeFailed(f"cgroup {path} cannot be frozen: a process hangs in the kernel")
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.05)


def thaw(hierarchies: Hierarchies, path: str) -> None:
    """Thaw the processes of the cgroup, if it is frozen."""
    for file, word in ((_v2(hierarchies, path), "0"), (_v1(hierarchies, path), "THAWED")):
        with suppress(OSError):
            if file:
                file.write_text(word)


def is_frozen(hierarchies: Hierarchies, path: str) -> bool:
    """Whether the cgroup is frozen or freezing."""
    return _read(_v2(hierarchies, path)) == "1" or _read(_v1(hierarchies, path)) in (
        "FREEZING",
        "FROZEN",
    )


def _has_frozen(hierarchies: Hierarchies, path: str) -> bool:
    """Freeze the cgroup; return whether it is frozen. v1 may need more than one write."""
    file = _v2(hierarchies, path)
    try:
        # A runtime that knows only v1 puts no process into the v2 hierarchy beside it.
        if file and (file.parent / "cgroup.procs").read_text():
            file.write_text("1")
            return "frozen 1" in (file.parent / "cgroup.events").read_text().split("\n")
        file = _v1(hierarchies, path)
        if file:
            file.write_text("FROZEN")
            return file.read_text().strip() == "FROZEN"
    except OSError as error:
        raise RuntimeFailed(f"cgroup {path} cannot be frozen: {error.strerror}") from error
    raise RuntimeFailed("this host has no freezer: neither cgroup v2 nor the v1 controller freezer")


def _v2(hierarchies: Hierarchies, path: str) -> Path | None:
    file = Path(f"{hierarchies.unified}{path}/cgroup.freeze")
    return file if hierarchies.unified and file.exists() else None


def _v1(hierarchies: Hierarchies, path: str) -> Path | None:
    root = hierarchies.v1.get("freezer")
    return Path(f"{root}{path}/freezer.state") if root else None


def _read(file: Path | None) -> str:
    try:
        return file.read_text().strip() if file else ""
    except OSError:
        return ""
