"""Processor time by cgroup, memory by process. SHELL over cgroupfs and /proc.

Every cgroup of the unified hierarchy counts its processor time, also beside v1 hierarchies, so
other processes of the machine do not count.
"""

import time
from collections.abc import Iterable
from pathlib import Path

_MOUNTS = Path("/proc/self/mounts")
_MIB = 1 << 20


def unified_root() -> Path:
    """Where the unified cgroup hierarchy is mounted. Raises RuntimeError if it is not."""
    for row in _MOUNTS.read_text().splitlines():
        _, target, kind, *_ = row.split()
        if kind == "cgroup2":
            return Path(target)
    raise RuntimeError("no unified cgroup hierarchy is mounted: processor time cannot be measured")


def cpu_seconds(cgroup: str) -> float:
    """Processor time of all processes that were ever in the cgroup or below it."""
    first, *_ = (unified_root() / cgroup.lstrip("/") / "cpu.stat").read_text().splitlines()
    return int(first.removeprefix("usage_usec")) / 1e6


def process_cpu_s(pid: int) -> float:
    """Processor time of a process with all threads that it had."""
    # clock_getcpuclockid(3), which Python does not have: CPUCLOCK_SCHED of the process.
    return time.clock_gettime(~pid << 3 | 2)


def resident_mib(pid: int) -> float:
    """Resident memory of one process."""
    return _field_mib(Path(f"/proc/{pid}/status"), "VmRSS:")


def proportional_mib(pids: Iterable[int]) -> float:
    """Memory of these processes; shared memory counts once."""
    return sum(_field_mib(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") for pid in pids)


def children(pid: int) -> list[int]:
    """Direct children of a process, of all its threads."""
    words = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(word) for word in " ".join(words).split()]


def _field_mib(path: Path, name: str) -> float:
    for line in path.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024 / _MIB
    raise RuntimeError(f"{path} has no {name}")
