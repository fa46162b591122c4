"""What moves, holds and given up copies are refused for, before anything changes."""

import pytest
from msgspec.structs import replace

from controller.api.changes.moving.holds import begin_hold
from controller.api.changes.moving.lost import forget_copy
from controller.api.changes.moving.moves import begin_moves, cancel_moves
from controller.brain.volumework import fail_move, finish_move
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, InvalidArgument, NotFound, PyswarmError, Unavailable
from pyswarm_core.ids import NodeId
from pyswarm_core.kinds import VOLUME
from pyswarm_core.objects import Node, Service
from pyswarm_core.specs import ContainerMode, Placement
from pyswarm_core.state import State
from pyswarm_core.states import Availability, NodeState
from pyswarm_core.volumes.limits import (
    COPIES_PROTOCOL,
    VOLUME_FAILURE_BYTES,
    VOLUME_WORK_MAX,
    VOLUMES_PER_MOVE,
)
from pyswarm_core.volumes.volume import Volume, VolumePlacement, VolumeWorkKind
from tests.fixtures import build
from tests.fixtures.build import NOW, Numbered, node, service, volume, with_mount


def mounting(name: str, *volumes: str, constraints: tuple[str, ...] = ()) -> Service:
    made = service(name)
    for number, one in enumerate(volumes):
        made = replace(made, spec=with_mount(made.spec, one, f"/d{number}"))
    template = replace(made.spec.task_template, placement=Placement(constraints=constraints))
    return replace(made, spec=replace(made.spec, task_template=template))


def world(*objects: Service | Volume | Node, nodes: int = 3) -> State:
    found = build.state(nodes=build.nodes(nodes))
    found.apply(Writes(objects=objects))
    return found


def moved(found: State, *names: str, to: str = "n2", force: bool = False) -> tuple[Volume, ...]:
    writes, result = begin_moves(found, names, to, NOW, force=force)
    found.apply(writes)
    return result


def test_several_begin_together() -> None:
    found = world(volume("a", "n1"), volume("b", "n1"), mounting("db", "a", "b"))
    result = moved(found, "a", "b", "a")
    assert [one.spec.name for one in result] == ["a", "b"]
    for one in result:
        assert one.work
        assert (one.work.kind, one.work.to, one.work.started_at) == (
            VolumeWorkKind.MOVE,
            "n2",
            NOW,
        )
    assert list(found.copies.moves) == ["a", "b"]


def test_one_that_is_there_or_on_its_way_there_stays_as_it_is() -> None:
    found = world(volume("a", "n1"), volume("b", "n2"))
    moved(found, "a")
    writes, result = begin_moves(found, ["a", "b"], "n2", Instant(NOW + 1))
    assert not writes
    assert [one.spec.name for one in result] == ["a", "b"]


REFUSED = [
    ([volume("a", "n1")], "n9", NotFound, "n9"),
    ([volume("a", "n1"), node("n2", state=NodeState.DOWN)], "n2", Conflict, '"n2" is down'),
    (
        [volume("a", "n1"), node("n2", availability=Availability.DRAIN)],
        "n2",
        Conflict,
        'node "n2" is drained: .*--availability active n2',
    ),
    (
        [volume("a", "n1"), node("n2", availability=Availability.PAUSE)],
        "n2",
        Conflict,
        'node "n2" is paused',
    ),
    (
        [volume("a", "n1"), node("n2", protocol=COPIES_PROTOCOL - 1)],
        "n2",
        Conflict,
        'destination node "n2" has protocol 8, which copies no volumes: upgrade',
    ),
    (
        [volume("a", "n1"), node("n1", protocol=COPIES_PROTOCOL - 1)],
        "n2",
        Conflict,
        'source node "n1" has protocol 8',
    ),
    (
        [replace(volume("a", "n1"), spec=replace(volume("a").spec, placement=VolumePlacement.ANY))],
        "n2",
        Conflict,
        "nothing to move",
    ),
    ([volume("a")], "n2", Conflict, r"no copy yet.*--constraint node\.hostname==n2"),
    ([replace(volume("a", "n1"), removing=True)], "n2", Conflict, "is being removed"),
    ([volume("a", "gone")], "n2", Conflict, "was removed: .*pyswarm volume forget a gone"),
    (
        [volume("a", "n1"), node("n1", state=NodeState.DOWN)],
        "n2",
        Conflict,
        'on node "n1", which is down: .*pyswarm volume forget a n1',
    ),
    (
        [replace(volume("a", "n1"), leaving=(NodeId("n2"),))],
        "n2",
        Conflict,
        "still deletes an old copy",
    ),
    (
        [volume("a", "n1"), volume("b", "n1"), mounting("db", "a", "b")],
        "n2",
        Conflict,
        "pyswarm volume move first a b --to n2",
    ),
    (
        [volume("a", "n1"), mounting("db", "a", constraints=("node.hostname!=n2",))],
        "n2",
        Conflict,
        "service db .* does not satisfy its constraint node.hostname!=n2: .*--force",
    ),
]


@pytest.mark.parametrize(("objects", "to", "error", "told"), REFUSED)
def test_what_cannot_be_moved_is_refused(
    objects: list[Service | Volume | Node], to: str, error: type[PyswarmError], told: str
) -> None:
    found = world(volume("first", "n3"), *objects)
    with pytest.raises(error, match=told):  # nothing begins, also of what could be moved
        moved(found, "first", "a", to=to)
    assert not found.copies.working


def test_a_container_whose_layer_is_on_the_source_is_named() -> None:
    box = mounting("box", "a")
    box = replace(box, spec=replace(box.spec, mode=ContainerMode()), pinned_node=NodeId("n1"))
    found = world(volume("a", "n1"), box)
    with pytest.raises(Conflict, match=r"container box mounts volume.*pyswarm rm -f box"):
        moved(found, "a", force=True)
    found.apply(Writes(objects=(replace(box, pinned_node=NodeId("")),)))
    assert moved(found, "a")


def test_force_ignores_constraints() -> None:
    found = world(volume("a", "n1"), mounting("db", "a", constraints=("node.hostname!=n2",)))
    assert moved(found, "a", force=True)[0].work


def test_one_with_other_work_is_refused_with_what_ends_that() -> None:
    found = world(volume("a", "n1"), volume("b", "n1"))
    moved(found, "a")
    with pytest.raises(Conflict, match=r"being moved to n2: .*pyswarm volume move --cancel a"):
        moved(found, "a", to="n3")
    found.apply(begin_hold(found, "b", "volume backup reads it", NOW)[0])
    with pytest.raises(Conflict, match="volume b is held: volume backup reads it: wait"):
        moved(found, "b")
    for name in ("a", "b"):
        with pytest.raises(Conflict):
            begin_hold(found, name, "volume backup", NOW)


def test_there_is_a_limit_of_volumes_with_work() -> None:
    assert VOLUME_WORK_MAX == 256
    many = [volume(f"v{number}", "n1") for number in range(VOLUME_WORK_MAX + 1)]
    found = world(*many)
    names = [one.spec.name for one in many]
    with pytest.raises(InvalidArgument, match="at most 32 at a time"):
        moved(found, *names)
    assert VOLUMES_PER_MOVE == 32
    for begin in range(0, VOLUME_WORK_MAX, VOLUMES_PER_MOVE):
        moved(found, *names[begin : begin + VOLUMES_PER_MOVE])
    with pytest.raises(Unavailable, match="256 volumes are being moved or held"):
        moved(found, names[-1])
    with pytest.raises(Unavailable):
        begin_hold(found, names[-1], "volume backup", NOW)


def test_moves_without_a_volume_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="name at least one"):
        moved(world())


def test_only_what_is_moved_can_be_cancelled_and_all_or_nothing() -> None:
    found = world(volume("a", "n1"), volume("b", "n1"))
    moved(found, "a")
    with pytest.raises(Conflict, match='volume "b" is not being moved'):
        cancel_moves(found, ["a", "b"], NOW)
    found.apply(begin_hold(found, "b", "volume backup", NOW)[0])
    with pytest.raises(Conflict, match='volume "b" is not being moved'):
        cancel_moves(found, ["b"], NOW)


def test_a_later_move_to_the_same_node_is_another_one() -> None:
    found = world(volume("a", "n1"))
    (before,) = moved(found, "a")
    found.apply(cancel_moves(found, ["a"], NOW)[0])
    found.apply(Writes(objects=(replace(found.of(VOLUME)[before.id], leaving=()),)))
    found.apply(begin_moves(found, ["a"], "n2", Instant(NOW + 1))[0])
    assert before.work
    for change in (finish_move(before.id, before.work), fail_move(before.id, before.work, "x")):
        assert change(found, Instant(NOW + 2), Numbered()) == (Writes(), None)


def test_the_failure_is_bounded_and_cleared_by_the_next_move() -> None:
    found = world(volume("a", "n1"))
    (begun,) = moved(found, "a")
    assert begun.work
    writes, left = fail_move(begun.id, begun.work, "é" * 5000)(found, NOW, Numbered())
    assert left
    assert len(left.failure.encode()) <= VOLUME_FAILURE_BYTES == 512
    found.apply(writes)
    assert moved(found, "a", to="n3")[0].failure == ""


def test_a_failed_move_to_a_forgotten_copy_keeps_that() -> None:
    found = world(replace(volume("a", "n1"), forgotten=(NodeId("n2"),)))
    (begun,) = moved(found, "a")
    assert begun.work
    _, left = fail_move(begun.id, begun.work, "disk full")(found, NOW, Numbered())
    assert left
    assert (left.leaving, left.forgotten) == ((), ("n2",))
    _, left = finish_move(begun.id, begun.work)(found, NOW, Numbered())
    assert left
    assert (left.copies, left.leaving, left.forgotten) == (("n2",), ("n1",), ())


def test_a_copy_on_a_ready_node_is_not_given_up_without_force() -> None:
    found = world(volume("a", "n1"))
    with pytest.raises(Conflict, match=r"is ready .*pyswarm volume move a --to NODE; --force"):
        forget_copy(found, "a", "n1", NOW)
    assert forget_copy(found, "a", "n1", NOW, force=True)[1].forgotten == ("n1",)


def test_only_a_copy_that_exists_is_given_up() -> None:
    found = world(volume("a", "n1"), volume("b"))
    with pytest.raises(InvalidArgument, match="no copy there; its copies are on n1"):
        forget_copy(found, "a", "n2", NOW)
    with pytest.raises(InvalidArgument, match="it has no copy"):
        forget_copy(found, "b", "n9", NOW)
    with pytest.raises(NotFound):
        forget_copy(found, "c", "n1", NOW)


def test_the_copy_of_a_removed_node_is_given_up_by_its_id() -> None:
    found = world(volume("a", "gone-node"))
    _, left = forget_copy(found, "a", "gone", NOW)
    assert (left.copies, left.forgotten) == ((), ())


def test_a_move_whose_source_is_given_up_has_failed() -> None:
    found = world(volume("a", "n1"))
    moved(found, "a")
    _, left = forget_copy(found, "a", "n1", NOW, force=True)
    assert (left.work, left.copies, left.leaving) == (None, (), ("n2",))
    assert left.failure


def test_volumes_of_one_slot_move_together_and_those_of_others_stay() -> None:
    db = mounting("db", "data-{{.Task.Slot}}", "log-{{.Task.Slot}}")
    names = ("data-1", "log-1", "data-2", "log-2")
    found = world(*(volume(name, "n1") for name in names), db)
    with pytest.raises(Conflict, match=r"also mounts volume .*move data-1 log-1 --to n2"):
        moved(found, "data-1")
    assert [one.spec.name for one in moved(found, "data-1", "log-1")] == ["data-1", "log-1"]
