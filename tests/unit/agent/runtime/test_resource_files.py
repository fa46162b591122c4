"""Which files a change of CPUs, memory and disks writes on cgroup v1 and v2."""

from pathlib import Path

import pytest

from agent.runtime.base import CgroupLimits, DiskLimits, RuntimeFailed
from agent.runtime.cgroups import Hierarchies
from agent.runtime.running import blockio
from agent.runtime.running.limits import change, cpu_weight
from tests.unit.agent.runtime.test_limits import content, filled

MIB = 1 << 20
V2 = {
    "pids.max": "max",
    "cpu.max": "max 100000",
    "cpu.weight": "100",
    "cpuset.cpus": "",
    "cpuset.mems": "",
    "memory.low": "0",
    "memory.max": "max",
    "memory.swap.max": "max",
    "io.max": "",
    "io.bfq.weight": "default 100",
}
V1 = {
    "pids/c/pids.max": "max",
    "cpu/c/cpu.cfs_period_us": "100000",
    "cpu/c/cpu.cfs_quota_us": "-1",
    "cpu/c/cpu.shares": "1024",
    "cpuset/c/cpuset.cpus": "0-3",
    "cpuset/c/cpuset.mems": "0",
    "memory/c/memory.limit_in_bytes": "-1",
    "memory/c/memory.memsw.limit_in_bytes": "-1",
    "memory/c/memory.soft_limit_in_bytes": "-1",
    "blkio/c/blkio.throttle.read_bps_device": "",
    "blkio/c/blkio.throttle.write_bps_device": "",
    "blkio/c/blkio.throttle.read_iops_device": "",
    "blkio/c/blkio.throttle.write_iops_device": "",
    "blkio/c/blkio.bfq.weight": "100",
    "blkio/c/blkio.bfq.weight_device": "",
}
SOME = CgroupLimits(
    cpu_quota_us=20_000,
    cpu_period_us=50_000,
    cpu_shares=512,
    cpuset_cpus="1-2",
    cpuset_mems="0",
    memory_reservation_bytes=MIB,
)


class Kernel:
    """Cgroup files that remember each write, as a kernel's do not keep what was written last."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.written: list[tuple[str, str]] = []
        write = Path.write_text

        def noted(path: Path, text: str) -> int:
            self.written.append((f"{path.parent.name}/{path.name}", text.strip()))
            return write(path, text)

        patch.setattr(Path, "write_text", noted)


@pytest.fixture
def v2(tmp_path: Path) -> Hierarchies:
    filled(tmp_path / "c", V2)
    filled(tmp_path, {"cpuset.cpus.effective": "0-3", "cpuset.mems.effective": "0"})
    return Hierarchies(str(tmp_path))


@pytest.fixture
def v1(tmp_path: Path) -> Hierarchies:
    filled(tmp_path, V1)
    filled(tmp_path, {"cpuset/cpuset.effective_cpus": "0-3", "cpuset/cpuset.effective_mems": "0"})
    names = ("pids", "cpu", "cpuset", "memory", "blkio")
    return Hierarchies("", {name: f"{tmp_path}/{name}" for name in names})


@pytest.fixture
def disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two disks, a and b: the scheduler of a is BFQ."""
    sys = tmp_path / "sys"
    filled(sys, {"8:0/queue/scheduler": "none [bfq]", "8:16/queue/scheduler": "[none] bfq"})
    monkeypatch.setattr(blockio, "DEVICES", sys)
    monkeypatch.setattr(blockio, "BLOCKS", sys)
    monkeypatch.setattr(blockio, "number", {"/dev/a": "8:0", "/dev/b": "8:16"}.__getitem__)
    return sys


def test_v2_has_a_weight_for_shares_and_low_for_the_reservation(
    v2: Hierarchies, tmp_path: Path
) -> None:
    change(v2, "/c", SOME)
    assert content(tmp_path / "c", V2) == {
        **V2,
        "cpu.max": "20000 50000",
        "cpu.weight": "20",
        "cpuset.cpus": "1-2",
        "cpuset.mems": "0",
        "memory.low": str(MIB),
    }
    change(v2, "/c", CgroupLimits())
    assert content(tmp_path / "c", V2) == {**V2, "cpuset.cpus": "0-3", "cpuset.mems": "0"}


def test_v1_has_shares_a_period_and_a_soft_limit(v1: Hierarchies, tmp_path: Path) -> None:
    change(v1, "/c", SOME)
    assert content(tmp_path, V1) == {
        **V1,
        "cpu/c/cpu.cfs_period_us": "50000",
        "cpu/c/cpu.cfs_quota_us": "20000",
        "cpu/c/cpu.shares": "512",
        "cpuset/c/cpuset.cpus": "1-2",
        "memory/c/memory.soft_limit_in_bytes": str(MIB),
    }
    change(v1, "/c", CgroupLimits())
    assert content(tmp_path, V1) == V1


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 39), (262_144, 10_000)])
def test_shares_are_converted_as_oci_runtimes_do(shares: int, weight: int) -> None:
    assert cpu_weight(shares) == weight


def test_v1_changes_the_cpus_of_commands_between_both_sets_of_the_container(
    v1: Hierarchies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, {"cpuset/c/exec-0/cpuset.cpus": "0-3", "cpuset/c/exec-0/cpuset.mems": "0"})
    kernel = Kernel(monkeypatch)
    change(v1, "/c", CgroupLimits(cpuset_cpus="1"))
    sets = [(file, text) for file, text in kernel.written if file.endswith("cpuset.cpus")]
    assert sets == [
        ("c/cpuset.cpus", "0-3,1"),
        ("exec-0/cpuset.cpus", "1"),
        ("c/cpuset.cpus", "1"),
    ]


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (CgroupLimits(cpuset_cpus="3-8"), "invalid cpuset 3-8: this host has CPUs 0-3"),
        (CgroupLimits(cpuset_mems="1"), "invalid cpuset 1: this host has memory nodes 0"),
        (CgroupLimits(disks=(DiskLimits(path="/dev/null"),)), "this host has no disk /dev/null"),
        (CgroupLimits(disks=(DiskLimits(path="/dev/nix"),)), "this host has no disk /dev/nix"),
    ],
)
def test_what_a_host_lacks_is_named_before_anything_is_written(
    version: str,
    limits: CgroupLimits,
    told: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hierarchies = request.getfixturevalue(version)
    kernel = Kernel(monkeypatch)
    with pytest.raises(RuntimeFailed, match=told):
        change(hierarchies, "/c", limits)
    assert kernel.written == []


def test_a_host_without_these_controllers_carries_containers_without_such_limits(
    tmp_path: Path,
) -> None:
    names = ("pids", "cpu", "memory")
    filled(tmp_path, {name: text for name, text in V1.items() if name.startswith(names)})
    bare = Hierarchies("", {name: f"{tmp_path}/{name}" for name in names})
    change(bare, "/c", CgroupLimits(pids=7))
    assert (tmp_path / "pids/c/pids.max").read_text() == "7"
    with pytest.raises(RuntimeFailed, match="invalid cpuset 0: this host has no cpuset controller"):
        change(bare, "/c", CgroupLimits(cpuset_cpus="0"))
    with pytest.raises(RuntimeFailed, match="block IO: this host has no cgroup controller"):
        change(bare, "/c", CgroupLimits(blkio_weight=10))


@pytest.mark.usefixtures("disks")
def test_v1_throttles_each_disk_in_four_files_and_removes_others(
    v1: Hierarchies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, {"blkio/c/blkio.throttle.read_bps_device": "8:0 9\n8:16 5\n"})
    kernel = Kernel(monkeypatch)
    change(v1, "/c", CgroupLimits(disks=(DiskLimits(path="/dev/a", read_bps=7, write_iops=3),)))
    assert [text for file, text in kernel.written if "throttle" in file] == [
        "8:0 7",
        "8:16 0",
        "8:0 3",
    ]


@pytest.mark.usefixtures("disks")
def test_v2_throttles_each_disk_in_one_line_and_removes_others(
    v2: Hierarchies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = "8:0 rbps=7 wbps=max riops=max wiops=3"
    filled(tmp_path, {"c/io.max": f"{kept}\n8:32 rbps=5 wbps=max riops=max wiops=max\n"})
    kernel = Kernel(monkeypatch)
    both = (
        DiskLimits(path="/dev/a", read_bps=7, write_iops=3),
        DiskLimits(path="/dev/b", read_iops=1),
    )
    change(v2, "/c", CgroupLimits(disks=both))
    assert [text for file, text in kernel.written if file == "c/io.max"] == [
        "8:32 rbps=max wbps=max riops=max wiops=max",
        "8:16 rbps=max wbps=max riops=1 wiops=max",
    ]


@pytest.mark.usefixtures("disks")
def test_a_refused_throttle_is_undone_disk_by_disk(
    v1: Hierarchies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, {"blkio/c/blkio.throttle.read_bps_device": "8:0 9\n"})
    (tmp_path / "memory/c/memory.soft_limit_in_bytes").unlink()
    kernel = Kernel(monkeypatch)
    wanted = CgroupLimits(
        disks=(DiskLimits(path="/dev/a", read_bps=7), DiskLimits(path="/dev/b", read_bps=6)),
        memory_reservation_bytes=MIB,
    )
    with pytest.raises(RuntimeFailed, match="cannot change the memory reservation: no such file"):
        change(v1, "/c", wanted)
    throttled = [text for file, text in kernel.written if "throttle" in file]
    assert throttled == ["8:0 7", "8:16 6", "8:16 0", "8:0 9"]


@pytest.mark.usefixtures("disks")
@pytest.mark.parametrize(
    ("version", "written"),
    [
        ("v1", [("c/blkio.bfq.weight", "300"), ("c/blkio.bfq.weight_device", "8:0 50")]),
        ("v2", [("c/io.bfq.weight", "default 300"), ("c/io.bfq.weight", "8:0 50")]),
    ],
)
def test_weights_are_those_of_bfq(
    version: str,
    written: list[tuple[str, str]],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hierarchies = request.getfixturevalue(version)
    kernel = Kernel(monkeypatch)
    wanted = CgroupLimits(blkio_weight=300, disks=(DiskLimits(path="/dev/a", weight=50),))
    change(hierarchies, "/c", wanted)
    assert [
        (file, text) for file, text in kernel.written if "weight" in file[-13:] and "io" in file
    ] == written


def test_a_weight_without_effect_is_refused(v1: Hierarchies, disks: Path) -> None:
    with pytest.raises(RuntimeFailed, match="weight of /dev/b: it has no effect, since this host"):
        change(v1, "/c", CgroupLimits(disks=(DiskLimits(path="/dev/b", weight=50),)))
    (disks / "8:0/queue/scheduler").write_text("[none] bfq")
    with pytest.raises(RuntimeFailed, match="block IO weight: it has no effect"):
        change(v1, "/c", CgroupLimits(blkio_weight=50))


def test_iocost_has_weights_up_to_ten_thousand(
    v2: Hierarchies, disks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c/io.bfq.weight").unlink()
    (disks / "8:0/queue/scheduler").write_text("[none] bfq")
    filled(tmp_path, {"io.cost.qos": "8:0 enable=1 ctrl=auto", "c/io.weight": "default 100"})
    kernel = Kernel(monkeypatch)
    change(v2, "/c", CgroupLimits(blkio_weight=1000))
    assert ("c/io.weight", "default 10000") in kernel.written
