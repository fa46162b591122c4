"""`swarm init` with an etcd of the user's: the files of its certificates."""

from pathlib import Path

import pytest

from cli.swarm.host import Host
from cli.swarm.init import _controller, init
from tests.unit.cli.conftest import Pyswarm

ENDPOINTS = ("--etcd-endpoints", "etcd1:2379,https://etcd2:2379")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    found = {}
    for name in ("cafile", "certfile", "keyfile"):
        (tmp_path / name).touch()
        found[f"--etcd-{name}"] = str(tmp_path / name)
    return found


def test_the_controller_receives_absolute_paths(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [word for flag, file in files.items() for word in (flag, Path(file).name)]
    given = init.make_context("init", [*ENDPOINTS, *words]).params
    started = list(_controller(Host(tmp_path), given))
    assert {f"{flag}={file}" for flag, file in files.items()} <= set(started)
    assert f"--etcd-endpoints={ENDPOINTS[1]}" in started


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--etcd-certfile",), ("--etcd-certfile", "expected --etcd-keyfile as well")),
        (("--etcd-keyfile",), ("--etcd-keyfile", "expected --etcd-certfile as well")),
    ],
)
def test_certificate_and_key_come_together(
    flags: tuple[str, ...], told: tuple[str, ...], files: dict[str, str], pyswarm: Pyswarm
) -> None:
    words = [word for flag in flags for word in (flag, files[flag])]
    ran = pyswarm("swarm", "init", *ENDPOINTS, *words)
    assert ran.code == 2
    assert all(part in ran.err for part in told)


@pytest.mark.parametrize("flag", ["--etcd-cafile", "--etcd-certfile", "--etcd-keyfile"])
def test_files_need_endpoints_and_must_exist(
    flag: str, files: dict[str, str], pyswarm: Pyswarm
) -> None:
    ran = pyswarm("swarm", "init", flag, files[flag])
    assert ran.code == 2
    assert "expected --etcd-endpoints as well" in ran.err
    ran = pyswarm("swarm", "init", *ENDPOINTS, flag, f"{files[flag]}.none")
    assert ran.code == 2
    assert f"{files[flag]}.none" in ran.err
