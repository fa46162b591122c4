"""Which cgroup files a change of limits writes, in which order; what is undone after a refusal."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from agent.runtime.base import CgroupLimits, RuntimeFailed
from agent.runtime.cgroups import Hierarchies
from agent.runtime.running import freezer
from agent.runtime.running.limits import change

MIB = 1 << 20
V2 = {"pids.max": "max", "cpu.max": "max 100000", "memory.max": "max", "memory.swap.max": "max"}
V1 = {
    "pids/pids.max": "max",
    "cpu/cpu.cfs_quota_us": "-1",
    "memory/memory.limit_in_bytes": str(32 * MIB),
    "memory/memory.memsw.limit_in_bytes": str(64 * MIB),
}
SOME = CgroupLimits(
    cpu_quota_us=20_000, memory_bytes=48 * MIB, memory_and_swap_bytes=80 * MIB, pids=9
)


def filled(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def content(root: Path, files: dict[str, str]) -> dict[str, str]:
    return {name: (root / name).read_text() for name in files}


@pytest.fixture
def v2(tmp_path: Path) -> Hierarchies:
    filled(tmp_path / "c", V2)
    return Hierarchies(str(tmp_path))


@pytest.fixture
def v1(tmp_path: Path) -> Hierarchies:
    filled(tmp_path, {name.replace("/", "/c/"): text for name, text in V1.items()})
    return Hierarchies("", {name: f"{tmp_path}/{name}" for name in ("pids", "cpu", "memory")})


def test_v2_counts_swap_apart_from_memory(v2: Hierarchies, tmp_path: Path) -> None:
    change(v2, "/c", SOME)
    assert content(tmp_path / "c", V2) == {
        "pids.max": "9",
        "cpu.max": "20000 100000",
        "memory.max": str(48 * MIB),
        "memory.swap.max": str(32 * MIB),
    }
    change(v2, "/c", CgroupLimits())
    assert content(tmp_path / "c", V2) == V2


@pytest.mark.parametrize(
    ("both", "first"), [(80, "memory.memsw.limit_in_bytes"), (50, "memory.limit_in_bytes")]
)
def test_v1_never_has_less_for_both_than_for_memory(
    v1: Hierarchies, both: int, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = Path.write_text

    def noted(path: Path, text: str) -> int:
        written.append(path.name)
        return write(path, text)

    monkeypatch.setattr(Path, "write_text", noted)
    change(v1, "/c", CgroupLimits(memory_bytes=48 * MIB, memory_and_swap_bytes=both * MIB))
    assert next(name for name in written if name.startswith("memory")) == first
    assert written[:2] == ["pids.max", "cpu.cfs_quota_us"]


def test_after_a_refusal_all_is_as_before(v2: Hierarchies, tmp_path: Path) -> None:
    (tmp_path / "c/memory.max").unlink()
    (tmp_path / "c/memory.max").mkdir()
    with pytest.raises(RuntimeFailed, match="cannot change the memory limit: is a directory"):
        change(v2, "/c", SOME)
    left = ("pids.max", "cpu.max", "memory.swap.max")
    assert [(tmp_path / "c" / name).read_text() for name in left] == [V2[name] for name in left]


def test_v1_does_not_swap_to_get_below_a_limit(v1: Hierarchies, tmp_path: Path) -> None:
    used = {"memory.usage_in_bytes": str(60 * MIB), "memory.stat": "total_inactive_file 0\n"}
    filled(tmp_path / "memory/c", used)
    with pytest.raises(RuntimeFailed, match="memory limit to 48MiB: 60MiB are in use"):
        change(v1, "/c", SOME)
    assert (tmp_path / "pids/c/pids.max").read_text() == "max"


def test_v2_is_not_told_a_limit_below_what_is_in_use(v2: Hierarchies, tmp_path: Path) -> None:
    used = {"memory.current": str(60 * MIB), "memory.stat": f"inactive_file {4 * MIB}\n"}
    filled(tmp_path / "c", used)
    with pytest.raises(RuntimeFailed, match="memory limit to 48MiB: 56MiB are in use"):
        change(v2, "/c", SOME)
    assert content(tmp_path / "c", V2) == V2


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_process_limit_below_the_processes_in_use_is_refused(
    version: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    hierarchies = request.getfixturevalue(version)
    pids = tmp_path / ("pids/c" if version == "v1" else "c")
    filled(pids, {"pids.current": "10\n"})
    with pytest.raises(RuntimeFailed, match="process limit to 9: 10 are in use"):
        change(hierarchies, "/c", SOME)
    assert (pids / "pids.max").read_text() == "max"


class Reclaim:
    """A kernel in which memory.high brings the usage down to `reaches`."""

    def __init__(self, directory: Path, reaches: int, patch: pytest.MonkeyPatch) -> None:
        self.written: list[tuple[str, str]] = []
        write = Path.write_text

        def written(path: Path, text: str) -> int:
            if path.name.startswith("memory."):
                self.written.append((path.name, text))
                if path.name == "memory.high":
                    write(directory / "memory.current", str(reaches))
            return write(path, text)

        patch.setattr(Path, "write_text", written)
        patch.setattr("agent.runtime.running.limits._RECLAIM_MAX_S", 0)


USED = {
    "memory.max": str(80 * MIB),
    "memory.high": "max",
    "memory.current": str(60 * MIB),
    "memory.stat": f"inactive_file {20 * MIB}\n",
}


def test_v2_reclaims_memory_before_it_gets_a_lower_limit(
    v2: Hierarchies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path / "c", USED)
    kernel = Reclaim(tmp_path / "c", 47 * MIB, monkeypatch)
    change(v2, "/c", SOME)
    limit = str(48 * MIB)
    names = [(name, text) for name, text in kernel.written if name != "memory.swap.max"]
    assert names == [("memory.high", limit), ("memory.max", limit), ("memory.high", "max")]


def test_v2_keeps_its_limit_if_too_little_memory_can_be_reclaimed(
    v2: Hierarchies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path / "c", USED)
    kernel = Reclaim(tmp_path / "c", 50 * MIB, monkeypatch)
    with pytest.raises(RuntimeFailed, match="memory limit to 48MiB: 50MiB are in use"):
        change(v2, "/c", SOME)
    assert kernel.written == [("memory.high", str(48 * MIB)), ("memory.high", "max")]
    assert (tmp_path / "c/pids.max").read_text() == "max"


@pytest.mark.parametrize("requested", [0, 30, 48, 96])
def test_v2_holds_the_memory_no_longer_if_an_agent_was_killed_while_it_reclaimed(
    requested: int, v2: Hierarchies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the next limit is refused (30 MiB), lower, higher or none."""
    filled(tmp_path / "c", {**USED, "memory.high": f"{48 * MIB}\n"})
    Reclaim(tmp_path / "c", 47 * MIB, monkeypatch)
    with (
        nullcontext() if requested != 30 else pytest.raises(RuntimeFailed, match="40MiB are in use")
    ):
        change(v2, "/c", CgroupLimits(memory_bytes=requested * MIB))
    assert (tmp_path / "c/memory.high").read_text() == "max"


def test_v2_reclaims_nothing_for_a_higher_limit(
    v2: Hierarchies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path / "c", {**USED, "memory.max": str(40 * MIB), "memory.current": "1"})
    kernel = Reclaim(tmp_path / "c", 1, monkeypatch)
    change(v2, "/c", SOME)
    assert [name for name, _ in kernel.written] == ["memory.max", "memory.swap.max"]


def test_a_limit_that_the_kernel_does_not_have_may_be_none(v2: Hierarchies, tmp_path: Path) -> None:
    (tmp_path / "c/pids.max").unlink()
    change(v2, "/c", CgroupLimits(memory_bytes=MIB))
    with pytest.raises(RuntimeFailed, match="cannot change the process limit: no such file"):
        change(v2, "/c", SOME)


def test_a_kernel_that_does_not_limit_swap_limits_memory(v2: Hierarchies, tmp_path: Path) -> None:
    (tmp_path / "c/memory.swap.max").unlink()
    change(v2, "/c", SOME)
    assert (tmp_path / "c/memory.max").read_text() == str(48 * MIB)


def test_the_freezer_of_v1_is_used_where_v2_has_no_process(tmp_path: Path) -> None:
    unified, v1 = tmp_path / "unified", tmp_path / "freezer"
    filled(unified / "c", {"cgroup.freeze": "0", "cgroup.procs": "", "cgroup.events": "frozen 0"})
    filled(v1 / "c", {"freezer.state": "THAWED"})
    both = Hierarchies(str(unified), {"freezer": str(v1)})
    freezer.freeze(both, "/c")
    assert (v1 / "c/freezer.state").read_text() == "FROZEN"
    assert (unified / "c/cgroup.freeze").read_text() == "0"
    assert freezer.is_frozen(both, "/c")
    freezer.thaw(both, "/c")
    assert not freezer.is_frozen(both, "/c")
    filled(unified / "c", {"cgroup.procs": "7\n", "cgroup.events": "populated 1\nfrozen 1\n"})
    freezer.freeze(both, "/c")
    assert (unified / "c/cgroup.freeze").read_text() == "1"
    assert (v1 / "c/freezer.state").read_text() == "THAWED"


def test_a_host_without_a_freezer_says_so() -> None:
    with pytest.raises(RuntimeFailed, match="no freezer"):
        freezer.freeze(Hierarchies("", {"memory": "/nowhere"}), "/c")
