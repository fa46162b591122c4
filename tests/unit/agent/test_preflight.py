"""What a host can run is told from what its programs and mounts say."""

import resource
from pathlib import Path

import pytest

from agent import preflight
from agent.runtime.base import LogLimits
from agent.runtime.cgroups import CgroupMode, parse_mounts
from agent.runtime.conmon import Binaries, MonitorCall, arguments, plain_message
from pyswarm_core.errors import Unavailable

V1 = """25 20 0:21 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
26 20 0:22 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
27 20 0:23 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
28 20 0:24 / /sys/fs/cgroup/systemd rw shared:1 - cgroup cgroup rw,xattr,name=systemd
"""
UNIFIED = "29 20 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n"
V2 = "29 20 0:25 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n30 1 8:1 / / rw - ext4 x rw\n"


def test_mounts_tell_the_cgroup_mode() -> None:
    assert parse_mounts(V1).mode is CgroupMode.V1
    assert parse_mounts(V1 + UNIFIED).mode is CgroupMode.HYBRID
    assert parse_mounts(V2).mode is CgroupMode.V2


def test_controllers_mounted_together_are_one_hierarchy() -> None:
    assert len(parse_mounts(V1).roots()) == 4
    assert str(parse_mounts(V1).controller("cpuacct", "/a")) == "/sys/fs/cgroup/cpu,cpuacct/a"
    assert str(parse_mounts(V2).controller("memory", "/a")) == "/sys/fs/cgroup/a"


def test_controller_left_on_v2_of_a_hybrid_host_is_to_be_mounted() -> None:
    hybrid = parse_mounts(V1 + UNIFIED)
    assert preflight.controllers_to_mount(hybrid, ("hugetlb",)) == ("hugetlb",)
    (problem,) = preflight.cgroup_problems(hybrid, ("hugetlb",))
    assert "mount -t cgroup -o hugetlb" in problem
    assert preflight.cgroup_problems(hybrid, ()) == ()
    assert preflight.cgroup_problems(parse_mounts(V2), ("cpu", "memory", "pids")) == ()


def test_controller_that_only_another_mount_namespace_has_mounted_is_found() -> None:
    rows = "13:hugetlb:/\n9:name=systemd:/\n8:memory:/x\n2:cpu,cpuacct:/\n0::/\n"
    hybrid = parse_mounts(V1 + UNIFIED)
    unseen = [name for name in ("hugetlb", "memory", "cpu") if name not in hybrid.v1]
    assert list(preflight.mounted_elsewhere(hybrid, rows)) == unseen
    assert "hugetlb" in unseen
    assert preflight.mounted_elsewhere(parse_mounts(V2), "0::/a\n") == ()


def test_missing_controller_is_named() -> None:
    (problem,) = preflight.cgroup_problems(parse_mounts(V2), ("cpu", "pids"))
    assert "memory is not available" in problem


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("conmon version 2.1.6\ncommit: unknown\n", "2.1.6"),
        ("crun version 1.8.1\ncommit: f8a\n", "1.8.1"),
        ("runc version 1.1.5+ds1\nspec: 1.0.2\n", "1.1.5+ds1"),
        ("no such thing", ""),
    ],
)
def test_versions_are_read(output: str, version: str) -> None:
    assert preflight.parse_version(output) == version


def test_crun_is_preferred_and_runc_stands_in() -> None:
    assert preflight.choose_runtime("1.8.1", "1.1.5") == ("crun", "1.8.1")
    assert preflight.choose_runtime("", "1.1.5") == ("runc", "1.1.5")
    assert preflight.choose_runtime("", "") == ("", "")


def test_limits_are_raised_and_never_lowered(tmp_path: Path) -> None:
    for name, least in preflight.LIMITS.items():
        if "ipv6" not in name:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{least + 1}\n")
    small = tmp_path / "net/ipv4/neigh/default/gc_thresh3"
    small.write_text("1024\n")
    assert list(preflight.raised(tmp_path)) == ["raised net.ipv4.neigh.default.gc_thresh3 to 65536"]
    assert small.read_text() == "65536"
    assert list(preflight.raised(tmp_path)) == []


def test_as_many_files_may_be_open_as_this_process_may_allow_itself() -> None:
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most - 1, most))
    try:
        told = list(preflight.raised_files())
        assert told == [f"raised the number of open files from {most - 1} to {most}"]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, most)
        assert list(preflight.raised_files()) == []
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


@pytest.mark.parametrize("name", ["skopeo", "containers-storage", "nft", "ip", "openssl"])
def test_a_host_without_a_program_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = preflight._path
    monkeypatch.setattr(preflight, "_path", lambda each: "" if each == name else found(each))
    with pytest.raises(Unavailable) as refused:
        preflight.probe()
    assert preflight.missing_program(name) in str(refused.value)


def test_missing_program_names_its_package() -> None:
    assert preflight.missing_program("nft") == (
        "nft is missing: install the Debian package nftables"
    )


@pytest.mark.parametrize(
    ("limits", "size"),
    [
        (LogLimits(), None),
        (LogLimits(max_size=100, max_file=1), "100"),
        (LogLimits(max_size=100, max_file=3), "100"),
        (LogLimits(max_size=100, stored=False), "100"),
    ],
)
def test_monitor_bounds_the_log(limits: LogLimits, size: str | None) -> None:
    call = MonitorCall(
        container_id="a",
        bundle="/b",
        root="/r",
        exits="/e",
        log_path="/l",
        log_limits=limits,
        terminal=False,
    )
    words = arguments(Binaries("/conmon", "/crun", "crun"), call)
    got = words[words.index("--log-size-max") + 1] if "--log-size-max" in words else None
    assert got == size
    assert words[words.index("-l") + 1] == ("k8s-file:/l" if limits.stored else "none")


def test_message_of_runc_is_unwrapped() -> None:
    raw = 'time="x" level=error msg="runc create failed: exec: \\"/no\\": not found"\n'
    assert plain_message(raw) == 'exec: "/no": not found'
    assert plain_message("open executable: Permission denied\n").endswith("Permission denied")
    assert plain_message("") == ""
