"""What a container uses, from the texts of its cgroup's files. PURE.

A text that is missing is empty, and counts as 0: a kernel may lack a controller, or PSI.
"""

import re
from collections.abc import Mapping

from agent.runtime.base import Details, Stats

Texts = Mapping[str, bytes]
"""The contents of files, by name."""

UNLIMITED = 1 << 60
"""v1 writes no limit as a number near 2^63."""
RESOURCES = ("cpu", "memory", "io")
_TICK_NS = 10_000_000
"""The unit of v1's `cpuacct.stat`: USER_HZ, which is 100 on every architecture."""
_USEC = 1_000
_NUMBERS = {
    "read": re.compile(rb" (?:rbytes=|Read )([0-9]+)"),
    "written": re.compile(rb" (?:wbytes=|Write )([0-9]+)"),
    "reads": re.compile(rb" (?:rios=|Read )([0-9]+)"),
    "writes": re.compile(rb" (?:wios=|Write )([0-9]+)"),
}
_STALLS = re.compile(rb"(some|full) [^\n]*total=([0-9]+)")

SERVICE_BYTES = "blkio.throttle.io_service_bytes_recursive"
SERVICED = "blkio.throttle.io_serviced_recursive"

# Controller and file; an empty controller is v2's own hierarchy, which PSI is in on every host.
V1 = (
    ("cpuacct", "cpuacct.usage"),
    ("memory", "memory.usage_in_bytes"),
    ("memory", "memory.limit_in_bytes"),
    ("memory", "memory.stat"),
    ("pids", "pids.current"),
    ("blkio", SERVICE_BYTES),
)
V2 = (
    ("cpu", "cpu.stat"),
    ("memory", "memory.current"),
    ("memory", "memory.max"),
    ("memory", "memory.stat"),
    ("pids", "pids.current"),
    ("io", "io.stat"),
)
_PRESSURE = tuple(("", f"{resource}.pressure") for resource in RESOURCES)
V1_DETAILS = (
    ("cpuacct", "cpuacct.stat"),
    ("cpu", "cpu.stat"),
    ("memory", "memory.oom_control"),
    ("pids", "pids.max"),
    ("blkio", SERVICED),
    *_PRESSURE,
)
V2_DETAILS = (("memory", "memory.events"), ("pids", "pids.max"), *_PRESSURE)


def stats_v1(texts: Texts) -> Stats:
    """From the files of `V1`."""
    read, written = disk_bytes(texts[SERVICE_BYTES])
    memory = texts["memory.stat"]
    return Stats(
        memory_bytes=_held(texts["memory.usage_in_bytes"], field(memory, b"total_inactive_file")),
        memory_limit_bytes=_limit(texts["memory.limit_in_bytes"]),
        cpu_ns=number(texts["cpuacct.usage"]),
        pids=number(texts["pids.current"]),
        io_read_bytes=read,
        io_write_bytes=written,
    )


def stats_v2(texts: Texts) -> Stats:
    """From the files of `V2`."""
    read, written = disk_bytes(texts["io.stat"])
    memory = texts["memory.stat"]
    return Stats(
        memory_bytes=_held(texts["memory.current"], field(memory, b"inactive_file")),
        memory_limit_bytes=_limit(texts["memory.max"]),
        cpu_ns=field(texts["cpu.stat"], b"usage_usec") * _USEC,
        pids=number(texts["pids.current"]),
        io_read_bytes=read,
        io_write_bytes=written,
    )


def details_v1(texts: Texts) -> Details:
    """From the files of `V1_DETAILS`, and `memory.stat`."""
    cpu, memory = texts["cpu.stat"], texts["memory.stat"]
    return Details(
        user_ns=field(texts["cpuacct.stat"], b"user") * _TICK_NS,
        system_ns=field(texts["cpuacct.stat"], b"system") * _TICK_NS,
        periods=field(cpu, b"nr_periods"),
        throttled_periods=field(cpu, b"nr_throttled"),
        throttled_ns=field(cpu, b"throttled_time"),
        rss_bytes=field(memory, b"total_rss"),
        cache_bytes=field(memory, b"total_cache"),
        oom_kills=field(texts["memory.oom_control"], b"oom_kill"),
        pids_limit=_limit(texts["pids.max"]),
        io_reads=_total("reads", texts[SERVICED]),
        io_writes=_total("writes", texts[SERVICED]),
        stalled_ns=stalls(texts),
    )


def details_v2(texts: Texts) -> Details:
    """From the files of `V2_DETAILS`, and those of `V2`."""
    cpu, memory = texts["cpu.stat"], texts["memory.stat"]
    return Details(
        user_ns=field(cpu, b"user_usec") * _USEC,
        system_ns=field(cpu, b"system_usec") * _USEC,
        periods=field(cpu, b"nr_periods"),
        throttled_periods=field(cpu, b"nr_throttled"),
        throttled_ns=field(cpu, b"throttled_usec") * _USEC,
        rss_bytes=field(memory, b"anon"),
        cache_bytes=field(memory, b"file"),
        oom_kills=field(texts["memory.events"], b"oom_kill"),
        pids_limit=_limit(texts["pids.max"]),
        io_reads=_total("reads", texts["io.stat"]),
        io_writes=_total("writes", texts["io.stat"]),
        stalled_ns=stalls(texts),
    )


def stalls(texts: Texts) -> dict[tuple[str, str], int]:
    """Nanoseconds that some, or all (`full`), of its processes waited for each resource."""
    found = {}
    for resource in RESOURCES:
        for kind, total in _STALLS.findall(texts[f"{resource}.pressure"]):
            found[resource, kind.decode()] = int(total) * _USEC
    return found


def disk_bytes(text: bytes) -> tuple[int, int]:
    """The bytes read and written, from v2's `io.stat` or v1's `io_service_bytes`.

    v2: `8:0 rbytes=90 wbytes=0 …`, a line per disk. v1: `8:0 Read 90`, a line per number.
    """
    return _total("read", text), _total("written", text)


def _total(what: str, text: bytes) -> int:
    return sum(map(int, _NUMBERS[what].findall(text))) if text else 0


def number(text: bytes) -> int:
    """The number in a file; 0 for an empty one, and UNLIMITED for `max`."""
    word = text.strip()
    return UNLIMITED if word == b"max" else int(word or 0)


def field(text: bytes, name: bytes) -> int:
    """The number after a name at the beginning of a line; 0 if there is none."""
    # A line is found without splitting: `memory.stat` has sixty of them.
    if text.startswith(name + b" "):
        start = len(name) + 1
    elif (before := text.find(b"\n" + name + b" ")) >= 0:
        start = before + len(name) + 2
    else:
        return 0
    end = text.find(b"\n", start)
    return int(text[start : end if end >= 0 else len(text)])


def _held(used: bytes, droppable: int) -> int:
    """The memory without the file cache that the kernel can drop, as Docker counts it."""
    return max(0, number(used) - droppable)


def _limit(text: bytes) -> int:
    limit = number(text)
    return limit if limit < UNLIMITED else 0
