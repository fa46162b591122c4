"""Events and audit records of moves: what began, how it ended, and who gave up a copy."""

import re

from controller.api.changes.moving.holds import begin_hold, extend_hold
from controller.api.changes.moving.lost import forget_copy
from controller.api.changes.moving.moves import begin_moves, cancel_moves
from controller.brain.volumework import fail_move, finish_move
from controller.leader.events.made import events_of
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import EventKind, Writes
from pyswarm_core.kinds import VOLUME
from pyswarm_core.state import State
from pyswarm_core.volumes.volume import VolumeId, VolumeWork
from tests.fixtures import build
from tests.fixtures.build import NOW, Numbered, volume
from tests.unit.controller.identity.test_audit import record


def world() -> State:
    found = build.state(nodes=build.nodes(3))
    found.apply(Writes(objects=(volume("data", "n1"),)))
    return found


def told(state: State, writes: Writes) -> list[tuple[str, str]]:
    found = [(f"{one.type}.{one.action}", one.reason) for one in events_of(state, writes)]
    state.apply(writes)
    return found


def work(state: State) -> VolumeWork:
    found = state.of(VOLUME)[VolumeId("data")].work
    assert found is not None
    return found


def test_words_of_all_actions_are_joined_alike() -> None:
    odd = [kind for kind in EventKind if not re.fullmatch(r"[a-z]+\.[a-z]+(_[a-z]+)*", kind)]
    assert not odd
    begun = {kind.removesuffix("_started") for kind in EventKind if kind.endswith("_started")}
    assert begun == {
        kind.removesuffix("_completed") for kind in EventKind if kind.endswith("_completed")
    }


def test_a_move_begins_and_ends() -> None:
    state = world()
    begun = begin_moves(state, ["data"], "n2", NOW)[0]
    found = record(state, begun, "volume move")
    assert (found.verb, found.object) == ("volume move", "volume/data")
    assert [(one.field, one.after) for one in found.changes] == [("Move.To", "n2")]
    assert told(state, begun) == [("volume.move_started", "to node n2")]
    writes, _ = finish_move(VolumeId("data"), work(state))(state, NOW, Numbered())
    assert told(state, writes) == [("volume.move_completed", "to node n2")]


def test_a_move_fails_or_is_cancelled() -> None:
    state = world()
    state.apply(begin_moves(state, ["data"], "n2", NOW)[0])
    writes, _ = fail_move(VolumeId("data"), work(state), "disk full")(state, NOW, Numbered())
    assert told(state, writes) == [("volume.move_failed", "disk full")]
    state.apply(begin_moves(state, ["data"], "n3", NOW)[0])
    writes, _ = cancel_moves(state, ["data"], NOW)
    assert told(state, writes) == [("volume.move_failed", "it was cancelled")]


def test_a_copy_that_was_given_up_is_named_with_its_node() -> None:
    state = world()
    writes, _ = forget_copy(state, "data", "n1", NOW, force=True)
    found = record(state, writes, "volume forget")
    assert [(one.field, one.before, one.after) for one in found.changes] == [
        ("Copies", "n1", ""),
        ("Forgotten", "", "n1"),
    ]
    assert told(state, writes) == [("volume.forget", "the copy on node n1 was given up")]


def test_a_hold_that_is_extended_makes_no_event() -> None:
    state = world()
    state.apply(begin_hold(state, "data", "volume backup", NOW)[0])
    later = Instant(NOW + SECOND)
    writes, _ = extend_hold(VolumeId("data"), work(state))(state, later, Numbered())
    assert told(state, writes) == []
