"""Setting the limits of a new or running container. SHELL over cgroupfs.

The files are written in an order in which the kernel accepts each. Invariant: if the kernel refuses
one, all limits are as before.

A memory limit below the usage kills a process on cgroup v2. There the usage is first brought below
the new limit with `memory.high`, which reclaims memory and never kills.
"""

import time
from contextlib import suppress

from agent.runtime import cgroups
from agent.runtime.base import CPU_PERIOD_US, CgroupLimits, RuntimeFailed
from agent.runtime.cgroups import Hierarchies
from agent.runtime.running import blockio, cpusets
from agent.runtime.running.writes import Write, directory, write_all
from agent.runtime.usage.reading import Reader
from pyswarm_core.docker.units import human_size

_NONE_V1 = "-1"
_NONE = "max"
_HIGH = "memory.high"
_RECLAIM_MAX_S, _RECLAIM_POLL_S = 1.0, 0.01
_SHARES, _WEIGHT = 1024, 100
"""The kernel's defaults, on v1 and v2."""
_SWAP = "the swap limit"
"""Without it in the kernel, memory alone is limited, as for a new container (and as in Docker)."""


def change(hierarchies: Hierarchies, path: str, limits: CgroupLimits) -> None:
    """Set the limits of cgroup `path`. Raises RuntimeFailed naming the one that was refused."""
    try:
        _check_usage(hierarchies, path, limits)
        _reclaim(hierarchies, path, limits.memory_bytes)
        write_all(_writes(hierarchies, path, limits))
    finally:
        _release(hierarchies, path)


def _check_usage(hierarchies: Hierarchies, path: str, limits: CgroupLimits) -> None:
    """Refuse a limit below the usage. Memory: v2 accepts it and kills a process, v1 swaps before it
    refuses. Processes: the kernel accepts it, and every fork fails.
    """
    usage = Reader(hierarchies).read(path)
    now = usage.stats if usage else None
    if limits.pids and now and now.pids > limits.pids:
        raise RuntimeFailed(
            f"cannot change the process limit to {limits.pids}: {now.pids} are in use"
        )
    requested = limits.memory_bytes
    if requested and now and now.memory_bytes > requested:
        raise _too_low(requested, now.memory_bytes)


def _too_low(requested: int, used: int) -> RuntimeFailed:
    return RuntimeFailed(
        f"cannot change the memory limit to {human_size(requested)}: {human_size(used)} are in use"
    )


def _reclaim(hierarchies: Hierarchies, path: str, requested: int) -> None:
    """Bring the memory in use below a lower limit, and hold it there until `_release`, on v2.
    Raises RuntimeFailed if the kernel cannot reclaim enough.
    """
    memory = hierarchies.controller("memory", path)
    if hierarchies.v1 or memory is None:
        return
    if not 0 < requested < cgroups.number(memory / "memory.max"):
        return
    try:
        (memory / _HIGH).write_text(str(requested))
    except OSError:  # this kernel has none; the usage was below the limit a moment ago
        return
    deadline = time.monotonic() + _RECLAIM_MAX_S
    while (used := cgroups.number(memory / "memory.current")) > requested:
        if time.monotonic() > deadline:
            raise _too_low(requested, used)
        time.sleep(_RECLAIM_POLL_S)


def _release(hierarchies: Hierarchies, path: str) -> None:
    """Hold the memory in use no longer; also if an agent that was killed meanwhile began to."""
    memory = hierarchies.controller("memory", path)
    if hierarchies.v1 or memory is None:
        return
    with suppress(OSError):  # nothing else sets it
        if (memory / _HIGH).read_text().strip() != _NONE:
            (memory / _HIGH).write_text(_NONE)


def _writes(hierarchies: Hierarchies, path: str, limits: CgroupLimits) -> list[Write]:
    return [
        Write(
            "the process limit",
            directory(hierarchies, "pids", path) / "pids.max",
            str(limits.pids or _NONE),
            is_default=not limits.pids,
        ),
        *_cpu(hierarchies, path, limits),
        *cpusets.writes(hierarchies, path, limits),
        *blockio.writes(hierarchies, path, limits),
        *_memory(hierarchies, path, limits),
    ]


def _cpu(hierarchies: Hierarchies, path: str, limits: CgroupLimits) -> list[Write]:
    what, shares = "the CPU limit", "the CPU shares"
    files = directory(hierarchies, "cpu", path)
    quota, period = limits.cpu_quota_us, limits.cpu_period_us
    if not hierarchies.v1:
        weight = cpu_weight(limits.cpu_shares) if limits.cpu_shares else _WEIGHT
        return [
            Write(what, files / "cpu.max", f"{quota or _NONE} {period}", is_default=not quota),
            Write(shares, files / "cpu.weight", str(weight), is_default=not limits.cpu_shares),
        ]
    is_usual = period == CPU_PERIOD_US
    return [
        Write("the CPU period", files / "cpu.cfs_period_us", str(period), is_default=is_usual),
        Write(what, files / "cpu.cfs_quota_us", str(quota or _NONE_V1), is_default=not quota),
        Write(
            shares,
            files / "cpu.shares",
            str(limits.cpu_shares or _SHARES),
            is_default=not limits.cpu_shares,
        ),
    ]


def cpu_weight(shares: int) -> int:
    """The `cpu.weight` of v2 (1 to 10,000) for Docker's shares (2 to 262,144), as OCI runtimes
    convert them.
    """
    return 1 + (shares - 2) * 9999 // 262_142


def _memory(hierarchies: Hierarchies, path: str, limits: CgroupLimits) -> list[Write]:
    what, soft = "the memory limit", "the memory reservation"
    files = directory(hierarchies, "memory", path)
    swap, reserved = limits.memory_and_swap_bytes, limits.memory_reservation_bytes
    requested = limits.memory_bytes
    if not hierarchies.v1:
        only_swap = str(max(0, swap - requested)) if swap else _NONE
        return [
            Write(soft, files / "memory.low", str(reserved), is_default=not reserved),
            Write(what, files / "memory.max", str(requested or _NONE), is_default=not requested),
            Write(_SWAP, files / "memory.swap.max", only_swap, is_default=True),
        ]
    soft_file = files / "memory.soft_limit_in_bytes"
    reservation = Write(soft, soft_file, str(reserved or _NONE_V1), is_default=not reserved)
    memory_file = files / "memory.limit_in_bytes"
    memory = Write(what, memory_file, str(requested or _NONE_V1), is_default=not requested)
    both_file = files / "memory.memsw.limit_in_bytes"
    both = Write(_SWAP, both_file, str(swap or _NONE_V1), is_default=True)
    # The kernel requires the limit of memory and swap to be at least the limit of memory.
    grows = not swap or swap > cgroups.number(both_file)
    return [reservation, both, memory] if grows else [reservation, memory, both]
