"""The volumes of a drained node move to where their services' tasks fit, if that is requested."""

import pytest
from msgspec.structs import replace

from controller.api.changes.nodes import stopped_by_drain
from controller.brain.decide import decide
from controller.brain.evacuation import evacuated, group_of
from controller.brain.volumework import fail_move, finish_move, ready
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Dirty, Writes
from pyswarm_core.ids import NodeId
from pyswarm_core.kinds import VOLUME
from pyswarm_core.objects import Node, Service
from pyswarm_core.specs import ContainerMode
from pyswarm_core.states import Availability
from pyswarm_core.volumes.limits import (
    COPIES_PROTOCOL,
    EVACUATION_LOOKS,
    EVACUATION_MOVES,
    EVACUATION_RETRY,
)
from pyswarm_core.volumes.volume import Volume
from tests.fixtures import build
from tests.fixtures.build import NOW, node
from tests.unit.controller.brain.test_moving import Moving, mounting, on_n1


def drain(world: Moving, node_id: str = "n1", *, moves: bool = True) -> Node:
    old = world.state.nodes[NodeId(node_id)]
    spec = replace(old.spec, availability=Availability.DRAIN, move_volumes=moves)
    world.put(replace(old, spec=spec))
    world.work_on()
    return world.state.nodes[NodeId(node_id)]


def moving(world: Moving) -> dict[str, str]:
    return {one.spec.name: one.work.to for one in world.state.copies.moves.values() if one.work}


def copy(world: Moving) -> None:
    for volume in ready(world.state):
        assert volume.work
        change = finish_move(volume.id, volume.work)
        world.write(change(world.state, world.now, world.ids)[0])
    world.work_on()


def larger(made: Service, memory: int) -> Service:
    spec = build.template(memory=memory)
    mounts = made.spec.task_template.container_spec.mounts
    container = replace(spec.container_spec, mounts=mounts)
    return replace(
        made, spec=replace(made.spec, task_template=replace(spec, container_spec=container))
    )


def test_nothing_moves_unless_it_is_requested() -> None:
    world = on_n1(mounting("db", "data"))
    drained = drain(world, moves=False)
    assert not moving(world)
    (told,) = stopped_by_drain(world.state, drained)
    assert "data (db)" in told
    assert "--move-volumes, or pyswarm volume move VOLUME --to NODE" in told


def test_groups_move_together_to_a_node_where_all_tasks_fit() -> None:
    db = larger(mounting("db", "data", "logs", replicas=2), 3 * build.GIB)
    backup = larger(mounting("backup", "logs"), build.GIB)
    hosts = [node("n1"), node("n2", memory=6 * build.GIB), node("n3", memory=7 * build.GIB)]
    world = on_n1(db, backup, hosts=hosts)
    assert world.running("db") == ["n1", "n1"]
    drained = drain(world)
    assert moving(world) == {"data": "n3", "logs": "n3"}
    assert not stopped_by_drain(world.state, drained), "they leave it already"
    copy(world)
    assert world.running("db") == ["n3", "n3"]
    assert world.running("backup") == ["n3"]
    assert not world.missing()


def test_a_volume_that_nothing_mounts_moves_too() -> None:
    world = Moving(volumes=[build.volume("data", "n1")])
    drain(world)
    assert list(moving(world)) == ["data"]


def test_at_most_so_many_move_at_a_time_and_the_others_follow() -> None:
    assert EVACUATION_MOVES == 8
    services = [mounting(f"s{number}", f"v{number}") for number in range(12)]
    world = on_n1(*services)
    drain(world)
    assert len(moving(world)) == 8
    copy(world)
    assert len(moving(world)) == 4
    copy(world)
    assert not moving(world)
    assert {one.home for one in world.state.of(VOLUME).values()} <= {"n2", "n3"}


def boxed(world: Moving) -> None:
    box = mounting("box", "data")
    mode = replace(box.spec, mode=ContainerMode())
    world.put(replace(box, spec=mode, pinned_node=NodeId("n1")))


def test_what_cannot_move_says_why_in_the_volume_and_in_the_warning() -> None:
    world = on_n1(mounting("db", "data"))
    boxed(world)
    world.work_on()
    drained = drain(world)
    why = "container box mounts it and keeps its writable layer there"
    assert world.volume().failure == f"it cannot leave its drained node: {why}"
    assert f"these volumes cannot leave n1: data ({why})" in stopped_by_drain(world.state, drained)
    assert not moving(world)


def test_without_a_node_that_fits_it_waits_and_goes_on_once_there_is_one() -> None:
    big = larger(mounting("db", "data"), 6 * build.GIB)
    small = build.nodes(1)[0]
    world = on_n1(big, hosts=[small, node("n2", memory=build.GIB)])
    drain(world)
    assert "lack memory" in world.volume().failure
    version = world.volume().updated_at
    world.wait(9)
    assert world.volume().updated_at == version
    world.put(node("n3"))
    assert EVACUATION_RETRY == 30 * SECOND
    world.now = Instant(world.now + EVACUATION_RETRY)
    world.work_on()
    assert moving(world) == {"data": "n3"}
    assert world.volume().failure == ""


def test_a_move_that_failed_is_repeated_later() -> None:
    world = on_n1(mounting("db", "data"))
    drain(world)
    (volume,) = ready(world.state)
    assert volume.work
    world.write(
        fail_move(volume.id, volume.work, "disk full")(world.state, world.now, world.ids)[0]
    )
    world.work_on()
    assert not moving(world)
    assert world.agenda.next_wake() <= world.now + EVACUATION_RETRY
    world.now = Instant(world.now + EVACUATION_RETRY)
    world.work_on()
    assert moving(world)


@pytest.mark.parametrize("protocol", [COPIES_PROTOCOL - 1])
def test_agents_that_copy_nothing_are_neither_source_nor_destination(protocol: int) -> None:
    world = on_n1(mounting("db", "data"), hosts=[node("n1", protocol=protocol), node("n2")])
    drain(world)
    assert "copies no volumes" in world.volume().failure
    world = on_n1(mounting("db", "data"), hosts=[node("n1"), node("n2", protocol=protocol)])
    drain(world)
    assert not moving(world)
    assert world.volume().failure


def test_a_node_in_use_again_keeps_the_rest() -> None:
    services = [mounting(f"s{number}", f"v{number}") for number in range(10)]
    world = on_n1(*services)
    drain(world)
    old = world.state.nodes[NodeId("n1")]
    world.put(replace(old, spec=replace(old.spec, availability=Availability.ACTIVE)))
    copy(world)
    assert not moving(world)
    assert sum(one.home == "n1" for one in world.state.of(VOLUME).values()) == 2


def test_a_look_is_bounded_whatever_a_node_has() -> None:
    assert EVACUATION_LOOKS == 16
    stuck = [replace(build.volume(f"v{n}", "n1"), leaving=(NodeId("n2"),)) for n in range(300)]
    world = Moving(volumes=stuck, hosts=build.nodes(2))
    drain(world)
    failed = [one for one in world.state.of(VOLUME).values() if one.failure]
    assert 0 < len(failed) <= 2 * EVACUATION_LOOKS
    for _ in range(2 * 300 // EVACUATION_LOOKS):
        world.now = Instant(world.now + EVACUATION_RETRY // 12)
        world.work_on()
    assert all(one.failure for one in world.state.of(VOLUME).values())


def test_a_look_is_bounded_however_many_nodes_are_drained() -> None:
    hosts = [
        replace(one, spec=replace(one.spec, availability=Availability.DRAIN, move_volumes=True))
        for one in build.nodes(50)
    ]
    volumes = [build.volume(f"v{n}", f"n{1 + n % 50}") for n in range(500)]
    state = build.state(nodes=hosts)
    state.apply(Writes(objects=tuple(volumes)))
    seen = dict[str, None]()
    now = NOW
    for _ in range(500):
        found = evacuated(state, now).volumes
        assert 0 < len(found) <= EVACUATION_LOOKS
        seen.update((one.id, None) for one in found)
        if len(seen) == len(volumes):
            return
        state.apply(Writes(objects=found))
        now = Instant(now + EVACUATION_RETRY // 12)
    raise AssertionError(f"{len(volumes) - len(seen)} volumes were never looked at")


def test_a_group_has_a_bound() -> None:
    chain = [mounting(f"s{n}", f"v{n}", f"v{n + 1}") for n in range(80)]
    volumes: list[Volume] = [build.volume(f"v{n}", "n1") for n in range(81)]
    world = Moving(*chain, volumes=volumes)
    assert "have to move together" in group_of(world.state, world.volume("v0")).blocked


def test_a_volume_that_a_service_leaves_is_not_moved_by_the_same_decision() -> None:
    web = mounting("web", "data")
    template = web.spec.task_template
    placement = replace(template.placement, volumes="any")
    web = replace(web, spec=replace(web.spec, task_template=replace(template, placement=placement)))
    n1, n2 = node("n1"), node("n2")
    spec = replace(n1.spec, availability=Availability.DRAIN, move_volumes=True)
    hosts = (replace(n1, spec=spec), n2)
    state = build.state(nodes=hosts, services=(web,))
    state.apply(Writes(objects=(build.volume("data", "n1"),)))
    dirty = Dirty()
    dirty.services.add(web.id)
    dirty.nodes.add(n1.id)
    writes = decide(state, dirty, NOW, build.Numbered()).writes
    assert [task.node_id for task in writes.tasks] == ["n2"]
    assert [one.copies for one in writes.of(VOLUME)] == [("n1", "n2")]
