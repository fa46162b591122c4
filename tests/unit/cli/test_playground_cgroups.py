"""A playground's cgroups: found while agents remove some, in every hierarchy there is."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cli.playground import cgroups

HYBRID = """tmpfs /c tmpfs rw 0 0
cgroup {0}/memory cgroup rw,memory 0 0
cgroup2 {0}/unified cgroup2 rw 0 0
"""


def test_a_cgroup_that_goes_while_it_is_looked_at_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fleet/host1/task").mkdir(parents=True)
    (tmp_path / "fleet/host2").mkdir()
    scan = os.scandir

    def racing(path: Any) -> Any:
        if Path(path).name == "task":
            Path(path).rmdir()
        return scan(path)

    monkeypatch.setattr(cgroups, "roots", lambda: [tmp_path])
    monkeypatch.setattr(os, "scandir", racing)
    assert cgroups.processes("/fleet") == set()
    monkeypatch.setattr(os, "scandir", scan)
    cgroups.remove("/fleet")
    assert not (tmp_path / "fleet").exists()
    cgroups.remove("/fleet")  # what is not there is no error


@pytest.mark.parametrize(
    ("mounts", "left", "mounted"),
    [
        (HYBRID, "hugetlb misc", ["hugetlb", "misc"]),
        (HYBRID, "", []),
        ("cgroup2 {0}/unified cgroup2 rw 0 0\n", "memory pids", []),
        ("cgroup {0}/memory cgroup rw,memory 0 0\n", "", []),
    ],
    ids=["hybrid", "hybrid, nothing left on v2", "v2", "v1"],
)
def test_controllers_left_on_v2_beside_v1_are_mounted(
    mounts: str, left: str, mounted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unified").mkdir()
    (tmp_path / "unified/cgroup.controllers").write_text(f"{left}\n")
    (tmp_path / "mounts").write_text(mounts.format(tmp_path))
    ran: list[Any] = []
    monkeypatch.setattr(cgroups, "_MOUNTS", tmp_path / "mounts")
    monkeypatch.setattr(subprocess, "run", lambda words, check: ran.append(words))
    cgroups.mount_all()
    kind = ["mount", "-t", "cgroup", "-o"]
    assert ran == [[*kind, name, "none", tmp_path / name] for name in mounted]
    assert all((tmp_path / name).is_dir() for name in mounted)
