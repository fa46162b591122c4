"""Docker's arithmetic of `stats`, from two samples of a container. PURE."""

from collections.abc import Mapping

from pyswarm_core.docker.units import decimal_size, human_size
from pyswarm_core.views import TaskStats

UNKNOWN = "--"


def cpu_percent(before: TaskStats, now: TaskStats) -> float:
    """Processor time between two samples, in percent of one core: 200 is two cores."""
    passed = now.at - before.at
    # A container that was started again counts from 0.
    used = now.cpu_ns - before.cpu_ns
    return 100 * used / passed if passed > 0 and used > 0 else 0.0


def memory_percent(stats: TaskStats) -> float:
    """Memory in use, in percent of the limit, or of the host's memory without one."""
    limit = stats.memory_limit_bytes
    return 100 * stats.memory_bytes / limit if limit else 0.0


def fields(before: TaskStats | None, now: TaskStats) -> Mapping[str, str]:
    """Docker's placeholders with their texts; the CPU is unknown without an earlier sample."""
    idle = not now.at
    cpu = 0.0 if idle else None
    if before is not None and not idle:
        cpu = cpu_percent(before, now)
    return {
        "CPUPerc": UNKNOWN if cpu is None else f"{cpu:.2f}%",
        "MemUsage": f"{human_size(now.memory_bytes)} / {human_size(now.memory_limit_bytes)}",
        "MemPerc": f"{memory_percent(now):.2f}%",
        "NetIO": f"{decimal_size(now.received_bytes)} / {decimal_size(now.sent_bytes)}",
        "BlockIO": f"{decimal_size(now.read_bytes)} / {decimal_size(now.written_bytes)}",
        "PIDs": str(now.pids),
    }
