"""What starts no playground and changes no host."""

from pathlib import Path

import pytest

from cli.errors import NotConverged
from cli.exits import ExitCode
from cli.playground import boot, fleet
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
