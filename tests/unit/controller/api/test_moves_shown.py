"""How far a move is, as its followers see it."""

import pytest
from msgspec.structs import replace

from controller.api.changes.moving.moves import begin_moves, cancel_moves
from controller.api.queries.moves import moves
from controller.leader.moves.progress import MoveProgress
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import InvalidArgument, NotFound
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from pyswarm_core.volumes.volume import VolumeId
from tests.fixtures import build
from tests.fixtures.build import NOW, service, task, volume, with_mount

RUNS = TaskState.RUNNING


@pytest.fixture
def state() -> State:
    found = build.state(nodes=build.nodes(2))
    db = service("db", replicas=2)
    db = replace(db, spec=with_mount(db.spec, "data"))
    found.apply(Writes(objects=(volume("data", "n1"), db)))
    tasks = [task("db.1", node="n1", state=RUNS), task("db.2", node="n1", state=RUNS)]
    found.apply(Writes(tasks=tasks))
    return found


def test_it_stops_copies_and_is_over(state: State) -> None:
    state.apply(begin_moves(state, ["data"], "n2", NOW)[0])
    (shown,) = moves(state, ["data"], {}, NOW)
    assert (shown.phase, shown.source, shown.to) == ("stopping", "n1", "n2")
    assert shown.waits_for == ("db.1", "db.2")
    assert (shown.running, shown.desired) == (2, 2)
    ended = [replace(one, state=TaskState.SHUTDOWN) for one in state.tasks.values()]
    state.apply(Writes(tasks=ended))
    (shown,) = moves(state, ["data"], {}, NOW)
    assert (shown.phase, shown.copied, shown.rate, shown.attempt) == ("copying", 0, 0, 0)
    progress = {VolumeId("data"): MoveProgress(copied=100, total=300, begun_at=NOW, attempt=2)}
    (shown,) = moves(state, ["data"], progress, Instant(NOW + 2 * SECOND))
    assert (shown.copied, shown.total, shown.rate, shown.attempt) == (100, 300, 50, 2)
    state.apply(cancel_moves(state, ["data"], NOW)[0])
    (shown,) = moves(state, ["data"], progress, NOW)
    assert (shown.phase, shown.failure, shown.source) == ("", "it was cancelled", "n1")


def test_only_some_volumes_that_exist(state: State) -> None:
    with pytest.raises(NotFound):
        moves(state, ["data", "other"], {}, NOW)
    with pytest.raises(InvalidArgument, match="name at least one"):
        moves(state, [], {}, NOW)
