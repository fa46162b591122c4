"""The cgroups of containers, on hosts with v1, v2 or both. SHELL over cgroupfs.

A container's cgroup has the same path in every mounted hierarchy (`Hierarchies.roots`). Invariant:
nothing outside the configured cgroup parent is written or removed.
"""

import errno
import os
import signal
import threading
import time
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

import msgspec

from agent.runtime.base import RuntimeFailed
from pyswarm_core.plaintext import split_lines

_UNLIMITED = 1 << 60
_REMOVE_TIMEOUT_S = 10.0
_PAUSE_S = 0.0005


class CgroupMode(StrEnum):
    """The cgroup version of a host; `hybrid` is v1 with an empty v2 hierarchy beside it."""

    V1 = "v1"
    HYBRID = "hybrid"
    V2 = "v2"


class Hierarchies(msgspec.Struct, frozen=True):
    """The cgroup mounts: v2's directory, and v1's by controller (`name=systemd` too)."""

    unified: str = ""
    v1: dict[str, str] = {}

    @property
    def mode(self) -> CgroupMode:
        """The mode that follows from the mounts."""
        if not self.v1:
            return CgroupMode.V2
        return CgroupMode.HYBRID if self.unified else CgroupMode.V1

    def roots(self) -> tuple[str, ...]:
        """Every mounted hierarchy once."""
        return tuple(dict.fromkeys((*self.v1.values(), *filter(None, (self.unified,)))))

    def controller(self, name: str, path: str) -> Path | None:
        """The directory of cgroup `path` with a controller's files; None if it is not mounted."""
        root = self.v1.get(name) or (self.unified if not self.v1 else "")
        return Path(root + path) if root else None


def parse_mounts(mountinfo: str) -> Hierarchies:
    """Parse /proc/self/mountinfo. Only the first mount of a hierarchy is used. PURE."""
    unified, v1 = "", dict[str, str]()
    for line in split_lines(mountinfo):
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        target = left.split(" ")[4]
        if kind == "cgroup2":
            unified = unified or target
        elif kind == "cgroup":
            for option in options.split(","):
                if option not in ("rw", "ro", "xattr", "clone_children", "noprefix"):
                    v1.setdefault(option, target)
    return Hierarchies(unified, v1)


def mounted() -> Hierarchies:
    """The hierarchies mounted in this process's mount namespace."""
    return parse_mounts(Path("/proc/self/mountinfo").read_text())


def was_out_of_memory(hierarchies: Hierarchies, path: str) -> bool:
    """Whether the kernel's OOM killer killed a process of cgroup `path`."""
    memory = hierarchies.controller("memory", path)
    if memory is None:
        return False
    return (
        _field(memory / ("memory.oom_control" if hierarchies.v1 else "memory.events"), "oom_kill")
        > 0
    )


def signal_all(hierarchies: Hierarchies, path: str, number: int) -> None:
    """Send a signal to every process in cgroup `path` and below."""
    for pid in members(hierarchies, path):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def remove(hierarchies: Hierarchies, path: str) -> None:
    """Kill every process of cgroup `path` and remove it from every hierarchy. Blocks briefly.

    Raises RuntimeFailed if processes are left after ten seconds (they hang in the kernel).
    """
    deadline = time.monotonic() + _REMOVE_TIMEOUT_S
    for root in hierarchies.roots():
        pause_s = _PAUSE_S
        while not _remove_tree(Path(root + path)):
            if time.monotonic() > deadline:
                left = ", ".join(map(str, members(hierarchies, path))) or "none"
                raise RuntimeFailed(f"cannot remove cgroup {root}{path}: processes left: {left}")
            # Processes that were killed already take a moment to end.
            if pause_s > 4 * _PAUSE_S:
                kill(hierarchies, path)
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.1)


def empty(hierarchies: Hierarchies, path: str) -> None:
    """Kill every process of cgroup `path`; return once it is empty. Blocks briefly.

    Raises RuntimeFailed if processes are left after ten seconds (they hang in the kernel).
    """
    deadline = time.monotonic() + _REMOVE_TIMEOUT_S
    pause_s = _PAUSE_S
    while left := members(hierarchies, path):
        if time.monotonic() > deadline:
            raise RuntimeFailed(f"cannot kill the processes of cgroup {path}: {left}")
        kill(hierarchies, path)
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.1)


def move(hierarchies: Hierarchies, source: str, target: str) -> None:
    """Move all processes of cgroup `source` that can be moved to `target`, which exists in every
    hierarchy that the source exists in.
    """
    moved: tuple[int, ...] = ()
    while (left := members(hierarchies, source)) and left != moved:
        moved = left
        for pid in left:
            for root in hierarchies.roots():
                with suppress(OSError):
                    Path(f"{root}{target}/cgroup.procs").write_text(str(pid))


def kill(hierarchies: Hierarchies, path: str) -> None:
    """Send SIGKILL to every process of cgroup `path` and below, including new ones."""
    if not hierarchies.v1:
        with suppress(OSError):
            Path(f"{hierarchies.unified}{path}/cgroup.kill").write_text("1")
            return
    # v1 has no cgroup.kill: freeze, so that no process can fork before its SIGKILL arrives.
    freezer = hierarchies.controller("freezer", path)
    _set_frozen(freezer, "FROZEN")
    signal_all(hierarchies, path, signal.SIGKILL)
    _set_frozen(freezer, "THAWED")


def _set_frozen(freezer: Path | None, state: str) -> None:
    with suppress(OSError):
        if freezer:
            (freezer / "freezer.state").write_text(state)


def members(hierarchies: Hierarchies, path: str) -> tuple[int, ...]:
    """The pids of the processes in cgroup `path` and below."""
    top = hierarchies.controller("pids", path) or hierarchies.controller("memory", path)
    if top is None or not top.is_dir():
        return ()
    found: list[int] = []
    for directory, _, _ in os.walk(top):
        with suppress(OSError):
            found += map(int, (Path(directory) / "cgroup.procs").read_text().split())
    return tuple(found)


def _remove_tree(top: Path) -> bool:
    """Remove a cgroup and its children; return whether it is gone."""
    try:
        top.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
        children = _children(top)
        for child in children:
            _remove_tree(child)
        return bool(children) and _try_remove(top)
    return True


def _children(top: Path) -> list[Path]:
    try:
        return [child for child in top.iterdir() if child.is_dir()]
    except FileNotFoundError:
        return []


def _try_remove(directory: Path) -> bool:
    try:
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def number(path: Path) -> int:
    """The number in a file; 0 if it cannot be read, and `_UNLIMITED` for `max`."""
    try:
        text = path.read_text().strip()
    except OSError:
        return 0
    return _UNLIMITED if text == "max" else int(text)


def _field(path: Path, name: str) -> int:
    try:
        lines = split_lines(path.read_text())
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name + " ")), 0)


class MonitorGroup:
    """The cgroup of monitors, so that the agent's own limits and its end do not affect them.

    On v1 a thread can be in a cgroup of its own, and its children inherit that: `enter_thread`,
    once per thread that starts monitors, makes the move free. On v2 each monitor must be moved
    (`adopt`) before it starts anything. An agent in the root cgroup of a hierarchy has no limits
    there, and nothing is moved.
    """

    def __init__(self, hierarchies: Hierarchies, path: str) -> None:
        self._directories = [
            Path(root + path) for root in _confined(hierarchies, Path("/proc/self/cgroup"))
        ]
        self._by_thread = bool(hierarchies.v1)
        self._ready = threading.Event()

    @property
    def adopts(self) -> bool:
        """Whether each monitor must be moved by `adopt`."""
        return bool(self._directories) and not self._by_thread

    def _prepare(self) -> None:
        if not self._ready.is_set():
            for directory in self._directories:
                directory.mkdir(parents=True, exist_ok=True)
            self._ready.set()

    def enter_thread(self) -> None:
        """Move the calling thread, on v1."""
        if self._directories and self._by_thread:
            self._prepare()
            for directory in self._directories:
                with suppress(OSError):
                    (directory / "tasks").write_text(str(threading.get_native_id()))

    def adopt(self, pid: int) -> None:
        """Move a process."""
        if self.adopts:
            self._prepare()
            for directory in self._directories:
                (directory / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """Remove the cgroup if no monitor is left in it."""
        for directory in self._directories:
            _try_remove(directory)


def _confined(hierarchies: Hierarchies, membership: Path) -> list[str]:
    """The hierarchies in which this process is not in the root cgroup."""
    roots: list[str] = []
    for line in split_lines(membership.read_text()):
        _, controllers, path = line.split(":", 2)
        root = hierarchies.v1.get(controllers.split(",")[0]) if controllers else hierarchies.unified
        # An empty v2 hierarchy beside v1 has no limits, and holds no single threads.
        if root and path != "/" and (controllers or not hierarchies.v1):
            roots.append(root)
    return roots
