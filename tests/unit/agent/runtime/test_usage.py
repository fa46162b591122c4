"""What is read from the files of a container's cgroup, of v1 and of v2."""

from pathlib import Path

import pytest

from agent.runtime.base import Details, Stats
from agent.runtime.cgroups import Hierarchies
from agent.runtime.usage.parsing import disk_bytes, field, number
from agent.runtime.usage.reading import Reader

STALLS = """some avg10=1.53 avg60=0.87 avg300=0.73 total=2500
full avg10=0.00 avg60=0.00 avg300=0.00 total=40
"""
V1 = {
    "cpuacct/cpuacct.usage": "3500000000\n",
    "cpuacct/cpuacct.stat": "user 250\nsystem 100\n",
    "cpu/cpu.stat": "nr_periods 90\nnr_throttled 8\nthrottled_time 70000\nnr_bursts 0\n",
    "memory/memory.usage_in_bytes": "9000000\n",
    "memory/memory.limit_in_bytes": "67108864\n",
    "memory/memory.stat": (
        "cache 1\nrss 2\ninactive_file 3\nhierarchical_memory_limit 9223372036854771712\n"
        "total_cache 5000000\ntotal_rss 3000000\ntotal_rss_huge 0\ntotal_inactive_file 4000000\n"
        "total_unevictable 0\n"
    ),
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "pids/pids.current": "7\n",
    "pids/pids.max": "100\n",
    "blkio/blkio.throttle.io_service_bytes_recursive": (
        "254:0 Read 90\n254:0 Write 7\n254:0 Sync 97\n254:16 Read 10\nTotal 107\n"
    ),
    "blkio/blkio.throttle.io_serviced_recursive": (
        "254:0 Read 3\n254:0 Write 4\n254:0 Sync 7\n254:16 Read 2\nTotal 9\n"
    ),
    "unified/cpu.pressure": STALLS,
    "unified/memory.pressure": STALLS.replace("2500", "2600"),
    "unified/io.pressure": STALLS.replace("2500", "2700"),
}
V2 = {
    "cpu.stat": (
        "usage_usec 3500000\nuser_usec 2500000\nsystem_usec 1000000\nnice_usec 0\n"
        "core_sched.force_idle_usec 0\nnr_periods 90\nnr_throttled 8\nthrottled_usec 70\n"
        "nr_bursts 0\nburst_usec 0\n"
    ),
    "memory.current": "9000000\n",
    "memory.max": "67108864\n",
    "memory.stat": (
        "anon 3000000\nfile 5000000\nkernel 12\nfile_mapped 1\ninactive_anon 2\nactive_anon 0\n"
        "inactive_file 4000000\nactive_file 1000000\n"
    ),
    "memory.events": "low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 0\n",
    "pids.current": "7\n",
    "pids.max": "100\n",
    "io.stat": (
        "8:0 rbytes=90 wbytes=7 rios=3 wios=4 dbytes=5 dios=6\n8:16 rbytes=10 wbytes=0 rios=2\n"
    ),
    "cpu.pressure": STALLS,
    "memory.pressure": STALLS.replace("2500", "2600"),
    "io.pressure": STALLS.replace("2500", "2700"),
}
READ = Stats(
    memory_bytes=5_000_000,
    memory_limit_bytes=64 << 20,
    cpu_ns=3_500_000_000,
    pids=7,
    io_read_bytes=100,
    io_write_bytes=7,
)
DETAILS = Details(
    user_ns=2_500_000_000,
    system_ns=1_000_000_000,
    periods=90,
    throttled_periods=8,
    throttled_ns=70_000,
    rss_bytes=3_000_000,
    cache_bytes=5_000_000,
    oom_kills=2,
    pids_limit=100,
    io_reads=5,
    io_writes=4,
    stalled_ns={
        ("cpu", "some"): 2_500_000,
        ("cpu", "full"): 40_000,
        ("memory", "some"): 2_600_000,
        ("memory", "full"): 40_000,
        ("io", "some"): 2_700_000,
        ("io", "full"): 40_000,
    },
)
CONTROLLERS = ("cpu", "cpuacct", "memory", "pids", "blkio")


def tree(root: Path, files: dict[str, str]) -> Path:
    """A cgroup `c` with these files, each in its hierarchy's directory."""
    for name, text in files.items():
        hierarchy, _, file = name.rpartition("/")
        path = root / hierarchy / "c" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def v1(root: Path, *, unified: bool = True) -> Hierarchies:
    return Hierarchies(
        str(root / "unified") if unified else "", {name: str(root / name) for name in CONTROLLERS}
    )


def test_files_of_v1_are_read(tmp_path: Path) -> None:
    reader = Reader(v1(tree(tmp_path, V1)))
    assert reader.read("/c") == (READ, None)
    assert reader.read("/c", details=True) == (READ, DETAILS)


def test_files_of_v2_are_read(tmp_path: Path) -> None:
    reader = Reader(Hierarchies(str(tree(tmp_path, V2))))
    assert reader.read("/c") == (READ, None)
    assert reader.read("/c", details=True) == (READ, DETAILS)


def test_a_cgroup_that_does_not_exist_has_no_reading(tmp_path: Path) -> None:
    for hierarchies in (v1(tree(tmp_path, V1)), Hierarchies(str(tmp_path))):
        assert Reader(hierarchies).read("/other", details=True) is None


def test_a_host_without_v2_has_no_stalls(tmp_path: Path) -> None:
    usage = Reader(v1(tree(tmp_path, V1), unified=False)).read("/c", details=True)
    assert usage
    assert usage.details
    assert usage.details.stalled_ns == {}
    assert usage.details.user_ns == DETAILS.user_ns


@pytest.mark.parametrize("files", [V1, V2], ids=["v1", "v2"])
def test_a_kernel_without_a_controller_counts_nothing_of_it(
    tmp_path: Path, files: dict[str, str]
) -> None:
    left = {name: text for name, text in files.items() if "blkio" not in name and "io." not in name}
    root = tree(tmp_path, left)
    hierarchies = v1(root) if files is V1 else Hierarchies(str(root))
    usage = Reader(hierarchies).read("/c", details=True)
    assert usage
    assert (usage.stats.io_read_bytes, usage.stats.io_write_bytes) == (0, 0)
    assert usage.stats.memory_bytes == READ.memory_bytes


@pytest.mark.parametrize(
    ("name", "unlimited"), [("memory.limit_in_bytes", "9223372036854771712"), ("memory.max", "max")]
)
def test_no_limit_is_0(tmp_path: Path, name: str, unlimited: str) -> None:
    files = V1 if name in "".join(V1) else V2
    changed = {key: f"{unlimited}\n" if key.endswith(name) else text for key, text in files.items()}
    changed = {key: "max\n" if key.endswith("pids.max") else text for key, text in changed.items()}
    root = tree(tmp_path, changed)
    usage = Reader(v1(root) if files is V1 else Hierarchies(str(root))).read("/c", details=True)
    assert usage
    assert usage.details
    assert (usage.stats.memory_limit_bytes, usage.details.pids_limit) == (0, 0)


def test_cache_that_exceeds_the_usage_leaves_nothing(tmp_path: Path) -> None:
    root = tree(tmp_path, V2 | {"memory.current": "3\n"})
    usage = Reader(Hierarchies(str(root))).read("/c")
    assert usage
    assert usage.stats.memory_bytes == 0


@pytest.mark.parametrize(
    ("text", "read", "written"),
    [
        ("", 0, 0),
        ("254:0 Read 90\n254:0 Write 7\n254:0 Sync 1\n254:16 Read 10\nTotal 107\n", 100, 7),
        ("8:0 rbytes=90 wbytes=7 rios=3 wios=4 dbytes=5 dios=6\n8:16 rbytes=10 wbytes=1\n", 100, 8),
    ],
    ids=["none", "v1", "v2"],
)
def test_bytes_of_disks_are_added_up(text: str, read: int, written: int) -> None:
    assert disk_bytes(text.encode()) == (read, written)


def test_a_field_is_a_whole_word_at_the_beginning_of_a_line() -> None:
    text = b"total_rss_huge 1\nx total_rss 2\ntotal_rss 3\nlast 4"
    assert field(text, b"total_rss") == 3
    assert field(text, b"total_rss_huge") == 1
    assert field(text, b"last") == 4
    assert field(text, b"huge") == 0
    assert field(b"", b"huge") == 0


def test_an_empty_file_is_0() -> None:
    assert [number(text) for text in (b"", b"\n", b"7\n")] == [0, 0, 7]
