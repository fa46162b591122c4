"""`volume move` begins moves and follows them; `volume forget` gives up a copy."""

from typing import Any

import pytest

from cli.render.moves import line_of
from cli.volume import following
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1.moving_pb2 import VolumeMove as Move
from pyswarm_core.api.v1.moving_pb2 import VolumeMovesReply
from pyswarm_core.errors import Conflict, Unavailable
from pyswarm_core.kinds import encode
from pyswarm_core.volumes.moves import VolumeMove
from pyswarm_core.volumes.volume import VolumeId
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.objects import node_view
from tests.unit.cli.scripted import Script
from tests.unit.cli.test_volumes import DATA

ID = "v" * 25
GIB = 1 << 30


def reply(**fields: Any) -> VolumeMovesReply:
    return VolumeMovesReply(moves=[Move(id=ID, name="data", **fields)])


STOPPING = reply(phase="stopping", source="host1", to="host2", waits_for=["db.1"])
COPYING = reply(
    phase="copying",
    source="host1",
    to="host2",
    copied=GIB,
    total=3 * GIB,
    rate=GIB // 10,
    attempt=1,
)
STARTING = reply(source="host2", desired=1)
DONE = reply(source="host2", desired=1, running=1)
FAILED = reply(source="host1", failure="no space left on device", desired=1)


@pytest.fixture
def fleet(script: Script, monkeypatch: pytest.MonkeyPatch) -> Script:
    monkeypatch.setattr(following, "POLL_S", 0.0)
    script.on("MoveVolume", STOPPING).on("CancelVolumeMove", FAILED)
    script.on("GetVolumeMoves", STOPPING, COPYING, COPYING, STARTING, DONE)
    script.on("ForgetVolume", pb.EncodedObject(value=encode(DATA)))
    return script


def test_move_waits_until_the_tasks_run_there(fleet: Script, pyswarm: Pyswarm) -> None:
    ran = pyswarm("volume", "move", "data", "--to", "host2")
    assert (ran.code, ran.out) == (0, "data\n")
    assert ran.err.splitlines() == [
        "data: stopping tasks: db.1",
        "data: copying to host2: 1GiB of 3GiB at 102.4MiB/s",
        "data: starting tasks on host2: 0 of 1 running",
        "data: done, on host2",
    ]
    (request,) = fleet.requests("MoveVolume")
    assert (list(request.refs), request.to, request.force) == (["data"], "host2", False)
    assert {tuple(one.refs) for one in fleet.requests("GetVolumeMoves")} == {(ID,)}


def test_detached_it_only_begins(fleet: Script, pyswarm: Pyswarm) -> None:
    ran = pyswarm("volume", "move", "--detach", "--force", "data", "logs", "--to", "host2")
    assert (ran.code, ran.out, ran.err) == (0, "data\n", "")
    (request,) = fleet.requests("MoveVolume")
    assert (list(request.refs), request.force) == (["data", "logs"], True)
    assert not fleet.requests("GetVolumeMoves")


def test_a_failed_move_is_an_error_with_its_reason(fleet: Script, pyswarm: Pyswarm) -> None:
    fleet.on("GetVolumeMoves", COPYING, FAILED)
    ran = pyswarm("volume", "move", "-q", "data", "--to", "host2")
    assert (ran.code, ran.out) == (1, "")
    assert "volume data stayed on host1: no space left on device" in ran.err
    assert "copying" not in ran.err


def test_what_is_refused_changes_nothing(fleet: Script, pyswarm: Pyswarm) -> None:
    fleet.on("MoveVolume", Conflict('the destination node "host2" is down, not ready'))
    ran = pyswarm("volume", "move", "data", "--to", "host2")
    assert (ran.code, ran.out) == (1, "")
    assert "is down, not ready" in ran.err
    assert not fleet.requests("GetVolumeMoves")


@pytest.mark.parametrize("words", [(), ("--to", "host2", "--cancel")])
def test_either_a_node_or_cancel(fleet: Script, pyswarm: Pyswarm, words: tuple[str, ...]) -> None:
    ran = pyswarm("volume", "move", "data", *words)
    assert ran.code == 2
    assert "specify --to NODE, or --cancel" in ran.err
    assert not fleet.asked


def test_cancel(fleet: Script, pyswarm: Pyswarm) -> None:
    assert pyswarm("volume", "move", "--cancel", "data").out == "data\n"
    (request,) = fleet.requests("CancelVolumeMove")
    assert list(request.refs) == ["data"]


def test_an_interrupt_leaves_the_move_going(
    fleet: Script, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cli.volume.following.time.sleep", interrupted)
    ran = pyswarm("volume", "move", "data", "--to", "host2")
    assert ran.code == 3
    assert "Follow it with `pyswarm volume move data --to host2`" in ran.err
    assert "cancel it with `pyswarm volume move --cancel data`" in ran.err
    assert not fleet.requests("CancelVolumeMove")


def test_another_leader_goes_on(
    fleet: Script, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.streams.resuming.PAUSE_S", 0.0)
    fleet.on("GetVolumeMoves", COPYING, Unavailable("it no longer leads"), COPYING, DONE)
    ran = pyswarm("volume", "move", "data", "--to", "host2")
    assert (ran.code, ran.out) == (0, "data\n")


def test_tasks_that_do_not_start_end_the_wait_with_a_warning(
    fleet: Script, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "START_S", -1.0)
    fleet.on("GetVolumeMoves", STARTING)
    ran = pyswarm("volume", "move", "data", "--to", "host2")
    assert (ran.code, ran.out) == (0, "data\n")
    assert "warning: volume data has moved; 0 of 1 tasks run" in ran.err


def test_forget(fleet: Script, pyswarm: Pyswarm) -> None:
    assert pyswarm("volume", "forget", "data", "host1").out == "data\n"
    (request,) = fleet.requests("ForgetVolume")
    assert (request.ref, request.node, request.force) == ("data", "host1", False)
    fleet.on("ForgetVolume", Conflict("is ready"))
    assert pyswarm("volume", "forget", "data", "host1").code == 1


def test_a_later_attempt_and_an_unknown_size_are_told() -> None:
    move = VolumeMove(id=VolumeId(ID), name="data", phase="copying", to="h2", copied=5, attempt=2)
    assert line_of(move) == "data: copying to h2: 5B, attempt 2"


def test_drain_with_its_volumes_is_a_field_of_the_node(script: Script, pyswarm: Pyswarm) -> None:
    script.on("GetNode", pb.NodeReply(node=node_view()))
    script.on("UpdateNode", pb.NodeReply(warnings=["these volumes cannot leave host1: data (x)"]))
    ran = pyswarm("node", "update", "--availability", "drain", "--move-volumes", "host1")
    assert (ran.code, ran.out) == (0, "host1\n")
    assert "warning: these volumes cannot leave host1: data (x)" in ran.err
    (request,) = script.requests("UpdateNode")
    assert (request.spec.availability, request.spec.move_volumes) == ("drain", True)
    ran = pyswarm("node", "update", "--availability", "pause", "--move-volumes", "host1")
    assert ran.code == 2
    assert "--move-volumes" in ran.err
    assert "--availability drain" in ran.err
    assert len(script.requests("UpdateNode")) == 1


def test_no_terminal_obeys_why_a_move_failed() -> None:
    move = VolumeMove(id=VolumeId(ID), name="data", source="host1", failure="tar: \x1b[2J: no")
    assert line_of(move) == "data: failed, stays on host1: tar:  [2J: no"
