"""Limits of a container and of its interfaces, with Docker's arithmetic. PURE."""

from collections.abc import Iterable
from typing import Any

from agent.network.base import Bandwidth, Interfaces
from agent.runtime.base import CPU_PERIOD_US, CgroupLimits, DiskLimits
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.resources import ThrottleDevice
from pyswarm_core.specs import Limits, Resources, TaskSpec

# The kernel refuses a smaller quota.
_CPU_QUOTA_MIN_US = 1_000
_BILLION = 1_000_000_000


def resources_section(
    resources: Resources, *, swap_accounted: bool, unified: bool
) -> dict[str, Any]:
    """The `linux.resources` section without devices.

    `swap_accounted`: whether this kernel limits swap (without it only memory is limited, as in
    Docker). `unified`: whether the host has cgroup v2, which has no swappiness. The limits of
    `written_limits` are not in it. Raises InvalidArgument for what cgroup v2 cannot do.
    """
    limits = resources.limits
    section: dict[str, Any] = {}
    if quota := _quota(limits):
        section["cpu"] = {"period": limits.cpu_period or CPU_PERIOD_US, "quota": quota}
    memory: dict[str, int | bool] = {}
    if limits.memory_bytes:
        memory["limit"] = limits.memory_bytes
        if swap_accounted:
            memory["swap"] = memory_and_swap(limits.memory_bytes, resources.swap_bytes)
    if resources.memory_swappiness >= 0 and not unified:
        memory["swappiness"] = resources.memory_swappiness
    if resources.oom_kill_disable:
        if unified:
            raise InvalidArgument(
                "oom-kill-disable: this host has cgroup v2, which cannot do without the OOM killer;"
                " use --oom-score-adj, or a node with cgroup v1"
            )
        memory["disableOOMKiller"] = True
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
        cpu_quota_us=_quota(limits),
        cpu_period_us=limits.cpu_period or CPU_PERIOD_US,
        cpu_shares=limits.cpu_shares,
        cpuset_cpus=limits.cpuset_cpus,
        cpuset_mems=limits.cpuset_mems,
        memory_bytes=memory,
        memory_and_swap_bytes=both,
        memory_reservation_bytes=limits.memory_reservation,
        pids=max(0, limits.pids),
        blkio_weight=limits.blkio_weight,
        disks=_disks(limits),
    )


def bandwidth(resources: Resources) -> Bandwidth:
    """The limits of the task's interfaces."""
    return Bandwidth(egress=resources.limits.net_egress, ingress=resources.limits.net_ingress)


def interfaces(spec: TaskSpec) -> Interfaces:
    """What the spec says about the task's interfaces."""
    return Interfaces(
        mac=spec.container_spec.mac_address,
        addresses=spec.task_ips,
        bandwidth=bandwidth(spec.resources),
    )


def written_limits(resources: Resources) -> CgroupLimits | None:
    """The limits of a new container that the runtime has to write itself, since OCI runtimes do not
    know every file of the kernel (`blkio.bfq.weight`), nor say what a host lacks; None if it has
    none of them.
    """
    limits = cgroup_limits(resources)
    plain = CgroupLimits(
        cpu_quota_us=limits.cpu_quota_us,
        cpu_period_us=limits.cpu_period_us if limits.cpu_quota_us else CPU_PERIOD_US,
        memory_bytes=limits.memory_bytes,
        memory_and_swap_bytes=limits.memory_and_swap_bytes,
        pids=limits.pids,
    )
    return None if limits == plain else limits


def _disks(limits: Limits) -> tuple[DiskLimits, ...]:
    """The limits of each disk that the spec names, in the order of paths."""
    weights = {one.path: one.weight for one in limits.blkio_weight_device}
    rates = [
        _by_path(devices)
        for devices in (
            limits.blkio_device_read_bps,
            limits.blkio_device_write_bps,
            limits.blkio_device_read_iops,
            limits.blkio_device_write_iops,
        )
    ]
    return tuple(
        DiskLimits(
            path=path,
            weight=weights.get(path, 0),
            read_bps=rates[0].get(path, 0),
            write_bps=rates[1].get(path, 0),
            read_iops=rates[2].get(path, 0),
            write_iops=rates[3].get(path, 0),
        )
        for path in sorted({*weights, *(path for each in rates for path in each)})
    )


def _by_path(devices: Iterable[ThrottleDevice]) -> dict[str, int]:
    return {one.path: one.rate for one in devices}


def _quota(limits: Limits) -> int:
    """Microseconds in each period; 0: no limit."""
    if not limits.nano_cpus:
        return limits.cpu_quota
    return max(limits.nano_cpus * CPU_PERIOD_US // _BILLION, _CPU_QUOTA_MIN_US)


def memory_and_swap(memory_bytes: int, swap_bytes: int) -> int:
    """The sum of memory and swap, which OCI limits; the spec has the swap alone."""
    if swap_bytes < 0:
        return -1
    return memory_bytes + (swap_bytes or memory_bytes)
