"""Changing the limits of a running container. SHELL over cgroupfs.

The files are written in an order in which the kernel accepts each. Invariant: if the kernel refuses
one, all limits are as before.

A memory limit below the usage kills a process on cgroup v2. There the usage is first brought below
the new limit with `memory.high`, which reclaims memory and never kills.
"""

import time
from contextlib import suppress
from pathlib import Path

import msgspec

from agent.runtime import cgroups
from agent.runtime.base import CPU_PERIOD_US, CgroupLimits, RuntimeFailed
from agent.runtime.cgroups import Hierarchies
from agent.runtime.usage.reading import Reader
from pyswarm_core.docker.units import human_size

_NONE_V1 = "-1"
_NONE = "max"
_HIGH = "memory.high"
_RECLAIM_MAX_S, _RECLAIM_POLL_S = 1.0, 0.01
_SWAP = "the swap limit"
"""Without it in the kernel, memory alone is limited, as for a new container (and as in Docker)."""


class Write(msgspec.Struct, frozen=True):
    """A write to a cgroup file; `what` names the limit in errors."""

    what: str
    file: Path
    value: str


def change(hierarchies: Hierarchies, path: str, limits: CgroupLimits) -> None:
    """Set the limits of cgroup `path`. Raises RuntimeFailed naming the one that was refused."""
    try:
        _check_usage(hierarchies, path, limits)
        _reclaim(hierarchies, path, limits.memory_bytes)
        _write(hierarchies, path, limits)
    finally:
        _release(hierarchies, path)


def _write(hierarchies: Hierarchies, path: str, limits: CgroupLimits) -> None:
    written: list[tuple[Path, str]] = []
    for write in _writes(hierarchies, path, limits):
        try:
            before = write.file.read_text().strip()
            write.file.write_text(write.value)
        except OSError as error:
            absent = isinstance(error, FileNotFoundError)
            if absent and (write.what == _SWAP or write.value in (_NONE_V1, _NONE)):
                continue  # "no limit" holds for a limit that this kernel does not have
            for file, value in reversed(written):
                with suppress(OSError):
                    file.write_text(value)
            reason = (error.strerror or str(error)).lower()
            raise RuntimeFailed(f"cannot change {write.what}: {reason}") from error
        written.append((write.file, before))


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
    def file(controller: str, name: str) -> Path:
        directory = hierarchies.controller(controller, path)
        if directory is None:
            raise RuntimeFailed(f"this host has no cgroup controller {controller}")
        return directory / name

    pids = Write("the process limit", file("pids", "pids.max"), str(limits.pids or _NONE))
    quota, swap = limits.cpu_quota_us, limits.memory_and_swap_bytes
    cpu_limit, memory_limit = "the CPU limit", "the memory limit"
    if not hierarchies.v1:
        only_swap = str(max(0, swap - limits.memory_bytes)) if swap else _NONE
        return [
            pids,
            Write(cpu_limit, file("cpu", "cpu.max"), f"{quota or _NONE} {CPU_PERIOD_US}"),
            Write(memory_limit, file("memory", "memory.max"), str(limits.memory_bytes or _NONE)),
            Write(_SWAP, file("memory", "memory.swap.max"), only_swap),
        ]
    cpu = Write(cpu_limit, file("cpu", "cpu.cfs_quota_us"), str(quota or _NONE_V1))
    memory_file = file("memory", "memory.limit_in_bytes")
    memory = Write(memory_limit, memory_file, str(limits.memory_bytes or _NONE_V1))
    both_file = file("memory", "memory.memsw.limit_in_bytes")
    both = Write(_SWAP, both_file, str(swap or _NONE_V1))
    # The kernel requires the limit of memory and swap to be at least the limit of memory.
    grows = not swap or swap > cgroups.number(both_file)
    return [pids, cpu, both, memory] if grows else [pids, cpu, memory, both]
