"""Where a restored volume has its copy."""

import pytest
from msgspec.structs import replace

from controller.api.changes.moving.holds import release_hold
from controller.api.changes.moving.moves import begin_moves
from controller.api.changes.moving.restoring import begin_restore, copy_of, finish_restore
from controller.brain.volumework import upkeep
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, NotFound, Unavailable
from pyswarm_core.ids import NodeId
from pyswarm_core.limits import PROTOCOL
from pyswarm_core.objects import Node
from pyswarm_core.state import State
from pyswarm_core.states import Availability, NodeState
from pyswarm_core.volumes.limits import COPIES_PROTOCOL
from pyswarm_core.volumes.volume import Volume, VolumeId, VolumePlacement, VolumeSpec
from tests.fixtures import build
from tests.fixtures.build import NOW, Numbered

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")


def volume(name: str = "data", *copies: NodeId, any_: bool = False, **changes: object) -> Volume:
    placement = VolumePlacement.ANY if any_ else VolumePlacement.PINNED
    made = Volume(id=VolumeId(name), spec=VolumeSpec(name=name, placement=placement), copies=copies)
    return replace(made, **changes)


def node(name: str, *, protocol: int = PROTOCOL, **changes: object) -> Node:
    made = build.node(name, **changes)  # type: ignore[arg-type]
    return replace(made, description=replace(made.description, protocol=protocol))


def world(*volumes: Volume, nodes: tuple[Node, ...] = ()) -> State:
    state = build.state(nodes=nodes or (node("n1"), node("n2"), node("n3")))
    state.apply(Writes(objects=volumes))
    return state


def restored(state: State, node_ref: str = "", *, hold: bool = False) -> Volume:
    """The volume after a restore."""
    writes, found = begin_restore("data", node_ref, hold=hold)(state, NOW, Numbered())
    state.apply(writes)
    if found.work is None:
        return found
    done_writes, done = finish_restore(found, found.work)(state, NOW, Numbered())
    state.apply(done_writes)
    assert done is not None
    return done


def test_a_copy_is_made_on_the_ready_node_with_the_fewest_volumes() -> None:
    assert restored(world(volume(), volume("a", N1), volume("b", N2))).copies == (N3,)
    assert restored(world(volume()), "n2").copies == (N2,)
    assert restored(world(volume("data", forgotten=(N1,)))).copies == (N2,)


def test_a_node_has_no_copy_before_it_is_whole_and_deletes_what_failed() -> None:
    state = world(volume())
    writes, found = begin_restore("data", "n2", hold=False)(state, NOW, Numbered())
    state.apply(writes)
    assert (found.copies, found.work and found.work.to) == ((), N2)
    assert found.work is not None
    writes, ended = release_hold(found.id, found.work)(state, NOW, Numbered())
    assert ended is not None
    assert (ended.copies, ended.leaving, ended.work) == ((), (N2,), None)
    later = Instant(found.work.until + 1)
    assert upkeep(state, later).volumes[0].leaving == (N2,)
    state.apply(writes)
    assert finish_restore(found, found.work)(state, NOW, Numbered())[1] is None
    with pytest.raises(Conflict, match='node "n2" is deleting a former copy of volume data'):
        begin_restore("data", "n2", hold=False)(state, NOW, Numbered())


def test_a_copy_that_exists_stays_where_it_is() -> None:
    state = world(volume("data", N2))
    for node_ref, hold in (("", False), ("n2", False), ("", True)):
        assert restored(state, node_ref, hold=hold).copies == (N2,)
    assert not state.copies.working
    with pytest.raises(Conflict, match='node "n2" is ready and has the copy of volume "data"'):
        restored(state, "n1")
    assert restored(world(volume("data", N2, any_=True)), "n1").copies == (N2, N1)


def test_a_lost_copy_is_given_up_once_another_one_is_whole() -> None:
    state = world(volume("data", N1), nodes=(node("n1", state=NodeState.DOWN), node("n2")))
    _, found = begin_restore("data", "n2", hold=False)(state, NOW, Numbered())
    assert (found.copies, found.forgotten) == ((N1,), ())
    done = restored(state, "n2")
    assert (done.copies, done.forgotten, done.work) == ((N2,), (N1,), None)
    gone = world(volume("data", NodeId("n9")))
    assert (restored(gone, "n2").copies, restored(gone, "n2").forgotten) == ((N2,), ())


def test_a_volume_with_work_is_not_restored() -> None:
    state = world(volume("data", N1))
    begun = begin_restore("data", "", hold=True)(state, NOW, Numbered())[0]
    state.apply(begun)
    for hold in (True, False):
        with pytest.raises(Conflict, match="volume data is held: it is being restored"):
            begin_restore("data", "", hold=hold)(state, NOW, Numbered())


@pytest.mark.parametrize(
    ("unfit", "told"),
    [
        ({"state": NodeState.DOWN}, "is down"),
        ({"state": NodeState.UNKNOWN}, "is unknown"),
        ({"availability": Availability.DRAIN}, "has the availability drain"),
        ({"availability": Availability.PAUSE}, "has the availability pause"),
        ({"protocol": COPIES_PROTOCOL - 1}, "has an agent with protocol 8, which is too old"),
    ],
)
def test_a_node_that_cannot_have_a_copy_is_refused(unfit: dict[str, object], told: str) -> None:
    assert COPIES_PROTOCOL == 9
    state = world(volume(), nodes=(node("n1", **unfit),))  # type: ignore[arg-type]
    with pytest.raises(Conflict, match=f'node "n1" {told}'):
        restored(state, "n1")
    with pytest.raises(Unavailable, match="no node is ready to have one"):
        restored(state)


def test_a_volume_that_is_removed_gets_no_copy() -> None:
    with pytest.raises(NotFound, match="no such volume"):
        restored(world(volume("data", N1, removing=True)))
    with pytest.raises(NotFound, match="no such node"):
        restored(world(volume()), "none")


def test_which_copy_is_meant() -> None:
    state = world(volume("data", N1, N2, any_=True))
    found = next(iter(state.copies.of_node(N1).values()))
    assert copy_of(state, found, "n2") == N2
    with pytest.raises(Conflict, match="has copies on 2 nodes: name one with --node"):
        copy_of(state, found, "")
    with pytest.raises(NotFound, match='volume data has no copy on node "n3"'):
        copy_of(state, found, "n3")
    with pytest.raises(NotFound, match="has no files yet: no task has mounted it"):
        copy_of(state, volume(), "")
    with pytest.raises(NotFound, match="is being removed"):
        copy_of(state, volume("data", N1, removing=True), "")


def mounted_by_db(state: State) -> None:
    """A task of the service db runs on n2, and mounts the volume."""
    db = build.service("db")
    db = replace(db, spec=build.with_mount(db.spec, "data", "/data"))
    state.apply(Writes(objects=(db,), tasks=[build.task("db.1", node="n2")]))


def test_a_volume_is_not_moved_while_it_is_restored_also_if_no_task_mounts_it() -> None:
    state = world(volume("data", N2))
    writes, found = begin_restore("data", "", hold=False)(state, NOW, Numbered())
    state.apply(writes)
    assert found.work is not None
    with pytest.raises(Conflict, match="volume data is held: it is being restored"):
        begin_moves(state, ["data"], "n1", NOW)


def test_tasks_are_stopped_only_if_that_is_requested() -> None:
    state = world(volume("data", N2))
    mounted_by_db(state)
    with pytest.raises(Conflict, match=r"data is mounted by db\.1\S*: stop them, or use --stop"):
        begin_restore("data", "", hold=False)(state, NOW, Numbered())
    assert begin_restore("data", "", hold=True)(state, NOW, Numbered())[1].work is not None
    state = world(volume("data", N2, N3, any_=True))
    mounted_by_db(state)
    assert begin_restore("data", "n3", hold=False)(state, NOW, Numbered())[1].work is None
