"""What starts no playground and changes no host."""

import re
from pathlib import Path

import pytest

from cli.errors import NotConverged
from cli.exits import ExitCode
from cli.playground import boot, cgroups, fleet, power
from cli.playground.fleet import Fleet
from pyswarm_core.errors import AlreadyExists
from tests.unit.cli.conftest import Pyswarm


def _never(*_: object) -> None:
    raise AssertionError("something was changed")


def test_a_playground_that_is_up_is_neither_started_again_nor_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "STATE_ROOT", tmp_path)
    fleet.save(Fleet(name="lab", nodes=3))
    monkeypatch.setattr(boot, "_up", _never)
    monkeypatch.setattr(boot, "down", _never)
    with pytest.raises(AlreadyExists, match="playground lab is already up"):
        boot.up(Fleet(name="lab", nodes=1), _never)
    assert fleet.load("lab").nodes == 3


@pytest.mark.parametrize("change", [{"killed": ("host1",)}, {"cut": ("host1",)}])
def test_no_host_is_waited_for_while_the_controllers_host_is_away(
    change: dict[str, tuple[str, ...]],
) -> None:
    plan = Fleet(name="lab", nodes=3, **change)  # type: ignore[arg-type]
    with pytest.raises(NotConverged, match="pyswarm playground heal --name lab host1"):
        boot.wait_until_ready(plan, plan.host("host3"), _never)


@pytest.mark.parametrize("flags", [("--nodes", "0"), ("--nodes", "201"), ("--name", "No Good")])
def test_a_playground_that_cannot_be_is_refused_before_anything_else(
    flags: tuple[str, str], pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.playground.commands._require_root", _never)
    ran = pyswarm("playground", "up", *flags)
    assert ran.code == ExitCode.USAGE
    assert flags[0] in ran.err


def test_a_host_joins_with_a_token_that_its_command_line_does_not_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "STATE_ROOT", tmp_path)
    monkeypatch.setattr("cli.playground.cgroups.make", lambda path: ())
    plan = Fleet(name="lab", nodes=1)
    host = plan.host("host1")
    command = power.agent(plan, host, "PYSWM-1-a-b").command()
    file = host.state_dir / "join-token"
    assert f"--join-token-file={file}" in command
    assert not any("PYSWM" in word for word in command)
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("PYSWM-1-a-b", 0o600)
    # A host that lost power before it had joined joins with the same token.
    assert power.agent(plan, host, "").command() == command
    assert file.read_text() == "PYSWM-1-a-b"


@pytest.mark.parametrize(
    ("is_populated", "state", "refusal"),
    [
        (True, "in other namespaces", "runs in other network and mount namespaces"),
        (False, "not running", "`pyswarm playground down --name lab` removes it"),
    ],
)
def test_a_playground_that_is_not_mounted_here_is_told_by_its_cgroups(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pyswarm: Pyswarm,
    *,
    is_populated: bool,
    state: str,
    refusal: str,
) -> None:
    monkeypatch.setattr(fleet, "STATE_ROOT", tmp_path / "state")
    monkeypatch.setattr(fleet, "RUN_ROOT", tmp_path / "run")
    monkeypatch.setattr("cli.playground.cgroups.is_populated", lambda path: is_populated)
    monkeypatch.setattr("cli.playground.commands._require_root", lambda: None)
    fleet.save(Fleet(name="lab", nodes=2, killed=("host2",)))
    ran = pyswarm("playground", "ls")
    told = [re.split(" {3,}", line)[3] for line in ran.out.splitlines()[1:]]
    assert [one.strip() for one in told] == [state, "killed"]
    words = (("exec", "host1", "true"), ("cut", "host1"), ("kill", "host1"), ("heal", "host2"))
    for verb, *arguments in words:
        ran = pyswarm("playground", verb, "--name", "lab", *arguments)
        assert (ran.code, refusal in ran.err) == (1, True)


def test_a_cgroup_is_populated_by_processes_of_any_pid_namespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "roots", lambda: [tmp_path])
    daemons = tmp_path / "pyswarm-lab" / "host1" / "daemons"
    daemons.mkdir(parents=True)
    assert not cgroups.is_populated("/pyswarm-lab")
    (daemons / "cgroup.procs").write_text("0\n")
    assert cgroups.is_populated("/pyswarm-lab")
    assert not cgroups.is_populated("/pyswarm-lab/host2")
