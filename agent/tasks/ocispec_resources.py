"""Cgroup limits of a container, with Docker's arithmetic. PURE."""

from typing import Any

from agent.runtime.base import CPU_PERIOD_US, CgroupLimits
from pyswarm_core.specs import Resources

# The kernel refuses a smaller quota.
_CPU_QUOTA_MIN_US = 1_000
_BILLION = 1_000_000_000


def resources_section(
    resources: Resources, *, swap_accounted: bool, unified: bool
) -> dict[str, Any]:
    """The `linux.resources` section without devices.

    `swap_accounted`: whether this kernel limits swap (without it only memory is limited, as in
    Docker). `unified`: whether the host has cgroup v2, which has no swappiness.
    """
    limits = resources.limits
    section: dict[str, Any] = {}
    if limits.nano_cpus:
        section["cpu"] = {"period": CPU_PERIOD_US, "quota": _quota(limits.nano_cpus)}
    memory: dict[str, int] = {}
    if limits.memory_bytes:
        memory["limit"] = limits.memory_bytes
        if swap_accounted:
            memory["swap"] = memory_and_swap(limits.memory_bytes, resources.swap_bytes)
    if resources.memory_swappiness >= 0 and not unified:
        memory["swappiness"] = resources.memory_swappiness
    if memory:
        section["memory"] = memory
    if limits.pids > 0:
        section["pids"] = {"limit": limits.pids}
    return section


def cgroup_limits(resources: Resources) -> CgroupLimits:
    """The same limits, for a container that runs; without swappiness."""
    limits = resources.limits
    memory, both = limits.memory_bytes, 0
    if memory:
        both = max(0, memory_and_swap(memory, resources.swap_bytes))
    return CgroupLimits(
        cpu_quota_us=_quota(limits.nano_cpus) if limits.nano_cpus else 0,
        memory_bytes=memory,
        memory_and_swap_bytes=both,
        pids=max(0, limits.pids),
    )


def _quota(nano_cpus: int) -> int:
    return max(nano_cpus * CPU_PERIOD_US // _BILLION, _CPU_QUOTA_MIN_US)


def memory_and_swap(memory_bytes: int, swap_bytes: int) -> int:
    """The sum of memory and swap, which OCI limits; the spec has the swap alone."""
    if swap_bytes < 0:
        return -1
    return memory_bytes + (swap_bytes or memory_bytes)
