"""The metrics of containers, `pyswarm_container_NAME`, as a table. PURE.

Each has the labels service, task, slot and node, and those of its own, whose values are few and
fixed. A container that has no value of a metric has no sample of it.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from agent.runtime.base import Details, Stats
from agent.stats.base import Traffic
from agent.tasks.record import Record
from pyswarm_core.clock import SECOND
from pyswarm_core.objects import HealthState

PREFIX = "pyswarm_container_"
LABELS = ("service", "task", "slot", "node")

Values = Iterator[tuple[tuple[str, ...], float]]
"""Values of the labels of its own, with the metric's value."""


class Reading(NamedTuple):
    """What is known of a container at a scrape."""

    record: Record
    stats: Stats
    details: Details
    traffic: Traffic | None
    restarts: int


class Family(NamedTuple):
    """One metric."""

    name: str
    """Without PREFIX; of counters without `_total`."""
    text: str
    values: Callable[[Reading], Values]
    labels: tuple[str, ...] = ()
    """Labels of its own."""
    is_counter: bool = True


def _one(value: float) -> Values:
    yield (), value


def _pair(labels: tuple[str, str], values: tuple[float, float]) -> Values:
    for label, value in zip(labels, values, strict=True):
        yield (label,), value


def _cpu(one: Reading) -> Values:
    return _pair(("user", "system"), (one.details.user_ns / SECOND, one.details.system_ns / SECOND))


def _limit(one: Reading) -> Values:
    if limit := one.stats.memory_limit_bytes:
        yield (), limit


def _pids_limit(one: Reading) -> Values:
    if one.details.pids_limit:
        yield (), one.details.pids_limit


def _healthy(one: Reading) -> Values:
    health = one.record.detail.health
    if health is not HealthState.NONE:
        yield (), float(health is HealthState.HEALTHY)


def _stalled(one: Reading) -> Values:
    for labels, stalled_ns in one.details.stalled_ns.items():
        yield labels, stalled_ns / SECOND


def _traffic(what: str) -> Callable[[Reading], Values]:
    """Those of containers with an interface of their own."""

    def values(one: Reading) -> Values:
        if one.traffic is not None:
            received = getattr(one.traffic, f"received_{what}")
            sent = getattr(one.traffic, f"sent_{what}")
            yield from _pair(_WAYS, (received, sent))

    return values


_DISK = ("read", "write")
_WAYS = ("receive", "transmit")

FAMILIES = (
    Family("cpu_seconds", "Processor time, by mode", _cpu, ("mode",)),
    Family(
        "cpu_periods",
        "Periods of its CPU limit in which it ran",
        lambda one: _one(one.details.periods),
    ),
    Family(
        "cpu_throttled_periods",
        "Periods of its CPU limit in which it was throttled",
        lambda one: _one(one.details.throttled_periods),
    ),
    Family(
        "cpu_throttled_seconds",
        "Time for which it was throttled",
        lambda one: _one(one.details.throttled_ns / SECOND),
    ),
    Family(
        "memory_working_set_bytes",
        "Memory without the file cache that the kernel can drop",
        lambda one: _one(one.stats.memory_bytes),
        is_counter=False,
    ),
    Family(
        "memory_rss_bytes",
        "Anonymous memory",
        lambda one: _one(one.details.rss_bytes),
        is_counter=False,
    ),
    Family(
        "memory_cache_bytes",
        "File cache",
        lambda one: _one(one.details.cache_bytes),
        is_counter=False,
    ),
    Family("memory_limit_bytes", "Memory limit, if it has one", _limit, is_counter=False),
    Family(
        "memory_oom_kills",
        "Processes that the kernel killed for lack of memory",
        lambda one: _one(one.details.oom_kills),
    ),
    Family(
        "pids",
        "Processes and threads",
        lambda one: _one(one.stats.pids),
        is_counter=False,
    ),
    Family("pids_limit", "Limit of processes, if it has one", _pids_limit, is_counter=False),
    Family(
        "block_bytes",
        "Bytes read from and written to disks",
        lambda one: _pair(_DISK, (one.stats.io_read_bytes, one.stats.io_write_bytes)),
        ("operation",),
    ),
    Family(
        "block_operations",
        "Reads from and writes to disks",
        lambda one: _pair(_DISK, (one.details.io_reads, one.details.io_writes)),
        ("operation",),
    ),
    Family(
        "network_bytes",
        "Bytes received and transmitted",
        _traffic("bytes"),
        ("direction",),
    ),
    Family(
        "network_packets",
        "Packets received and transmitted",
        _traffic("packets"),
        ("direction",),
    ),
    Family(
        "network_drops",
        "Packets dropped",
        _traffic("drops"),
        ("direction",),
    ),
    Family(
        "stalled_seconds",
        "Time in which some or all of its processes waited for a resource",
        _stalled,
        ("resource", "processes"),
    ),
    Family("restarts", "Restarts of its slot on this node", lambda one: _one(one.restarts)),
    Family(
        "start_time_seconds",
        "Time of its start, since 1970",
        lambda one: _one(one.record.started_at / SECOND),
        is_counter=False,
    ),
    Family("healthy", "1 if its health check succeeds, 0 if not", _healthy, is_counter=False),
)
