"""A playground's cgroups are found while its agents remove some of them."""

import os
from pathlib import Path
from typing import Any

import pytest

from cli.playground import cgroups


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
