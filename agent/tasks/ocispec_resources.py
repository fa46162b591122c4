"""Cgroup limits of a container, with Docker's arithmetic. PURE."""

from typing import Any

from agent.runtime.base import CPU_PERIOD_US
from pyswarm_core.specs import Resources

# The kernel refuses a smaller quota.
_CPU_QUOTA_MIN_US = 1_000
_BILLION = 1_000_000_000


def resources_section(
    resources: Resources, *, swap_accounted: bool, unified: bool
) -> dict[str, Any]:
    """The `linux.resources` section.

    `swap_accounted`: whether this kernel limits swap (without it only memory is limited, as in
    Docker). `unified`: whether the host has cgroup v2, which has no swappiness.
    """
    limits = resources.limits
    section: dict[str, Any] = {"devices": [{"allow": False, "access": "rwm"}]}
    if limits.nano_cpus:
        quota = limits.nano_cpus * CPU_PERIOD_US // _BILLION
        section["cpu"] = {"period": CPU_PERIOD_US, "quota": max(quota, _CPU_QUOTA_MIN_US)}
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


def memory_and_swap(memory_bytes: int, swap_bytes: int) -> int:
    """The sum of memory and swap, which OCI limits; the spec has the swap alone."""
    if swap_bytes < 0:
        return -1
    return memory_bytes + (swap_bytes or memory_bytes)
