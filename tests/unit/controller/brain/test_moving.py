"""While a volume is moved or held no task that mounts it runs; work ends by time and lost nodes."""

from collections.abc import Iterable, Iterator

import pytest
from msgspec.structs import replace

from controller.api.changes.moving.holds import begin_hold, extend_hold, release_hold
from controller.api.changes.moving.lost import forget_copy
from controller.api.changes.moving.moves import begin_moves, cancel_moves
from controller.api.changes.nodes import remove_node
from controller.api.changes.volumes import copies_removed, remove_volume
from controller.brain.volumework import displaced, fail_move, finish_move, ready, ready_to_copy
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict
from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.indexes.volumes import Copies
from pyswarm_core.kinds import VOLUME
from pyswarm_core.objects import Node, Service
from pyswarm_core.specs import ContainerMode
from pyswarm_core.states import Availability, NodeState, TaskState, is_terminal, occupies
from pyswarm_core.volumes.limits import VOLUME_HOLD
from pyswarm_core.volumes.volume import Volume, VolumeId, VolumeWork
from tests.fixtures import build
from tests.fixtures.build import nodes, service, with_mount
from tests.fixtures.turns import Leader

RUNNING = TaskState.RUNNING


def mounting(name: str, *volumes: str, replicas: int | None = 1) -> Service:
    made = service(name, replicas=replicas)
    for number, volume in enumerate(volumes):
        made = replace(made, spec=with_mount(made.spec, volume, f"/d{number}"))
    return made


class Moving(Leader):
    """Turns, honest agents and a copier whose copies are users' changes."""

    def __init__(
        self, *services: Service, hosts: Iterable[Node] = (), volumes: Iterable[Volume] = ()
    ) -> None:
        super().__init__(build.state(nodes=hosts or nodes(3)))
        self.put(*volumes, *services)
        self.work_on()

    def put(self, *objects: Volume | Service | Node) -> None:
        self.write(Writes(objects=objects))

    def write(self, writes: Writes) -> None:
        self.state.apply(writes)

    def step(self) -> None:
        """Decide, and let every agent do its next step."""
        self.turns()
        for task in list(self.state.tasks.values()):
            self.advance(self.state.tasks[task.id])

    def work_on(self) -> None:
        """Until nothing changes any more; time stands still."""
        for _ in range(40):
            before = dict(self.state.tasks)
            self.step()
            if before == self.state.tasks:
                self.turns()
                return
        raise AssertionError("it does not settle")

    def volume(self, name: str = "data") -> Volume:
        return self.state.of(VOLUME)[self.state.ids_of_names(VOLUME)[name]]

    def work_of(self, name: str = "data") -> VolumeWork:
        work = self.volume(name).work
        assert work is not None
        return work

    def move(self, *names: str, to: str) -> None:
        self.write(begin_moves(self.state, names, to, self.now)[0])

    def copied(self, name: str = "data") -> Volume | None:
        change = finish_move(self.volume(name).id, self.work_of(name))
        writes, volume = change(self.state, self.now, self.ids)
        self.write(writes)
        return volume

    def running(self, name: str) -> list[str]:
        return [task.node_id for task in self.desired(name) if task.state is RUNNING]

    def message(self, name: str) -> str:
        (task,) = self.desired(name)
        return task.detail.message

    def set_node(self, node_id: str, **changes: object) -> None:
        old = self.state.nodes[NodeId(node_id)]
        state = changes.get("state", old.status.state)
        spec = replace(old.spec, availability=changes.get("availability", old.spec.availability))
        status = replace(old.status, state=state, since=self.now)
        self.put(replace(old, status=status, spec=spec))


def on_n1(*services: Service, **given: object) -> Moving:
    names = dict.fromkeys(name for one in services for name in one.spec.task_template.volumes)
    volumes = [build.volume(name, "n1") for name in names]
    return Moving(*services, volumes=volumes, **given)  # type: ignore[arg-type]


def test_a_move_ends_the_tasks_then_copies_then_starts_them_there() -> None:
    world = on_n1(mounting("db", "data"), mounting("web"))
    assert world.running("db") == ["n1"]
    (before,) = world.running("web")
    world.move("data", to="n2")
    assert not ready(world.state)
    world.work_on()
    assert world.running("db") == []
    assert world.running("web") == [before]
    assert ready(world.state) == [world.volume()]
    assert world.message("db") == "no suitable node: volume data is being moved to n2"
    assert world.copied()
    world.work_on()
    assert world.running("db") == ["n2"]
    left = world.volume()
    assert (left.copies, left.leaving, left.work) == (("n2",), ("n1",), None)
    assert not ready(world.state)
    assert not world.missing()


def test_it_is_not_copied_before_the_last_task_has_ended() -> None:
    world = on_n1(mounting("db", "data", replicas=2), mounting("backup", "data"))
    world.move("data", to="n2")
    world.turns()
    tasks = [t for t in world.state.tasks.values() if occupies(t.state)]
    assert len(tasks) == 3
    for task in tasks:
        assert not ready_to_copy(world.state, world.volume())
        world.report("n1", task, TaskState.SHUTDOWN)
    assert ready_to_copy(world.state, world.volume())


def test_a_task_of_an_earlier_spec_is_ended_too() -> None:
    world = on_n1(mounting("db", "data"))
    old = world.state.services[ServiceId("db")]
    new = build.updating(replace(service("db"), spec_version=2, template_version=2), old.spec)
    world.put(replace(new, spec=service("db").spec))
    assert list(world.state.copies.mounting("data")) == ["db"]
    world.move("data", to="n2")
    world.turns()
    (task,) = [t for t in world.state.tasks.values() if occupies(t.state) and t.spec_version == 1]
    assert task.desired_state is TaskState.SHUTDOWN
    assert not ready(world.state)
    world.work_on()
    assert ready(world.state)


def test_tasks_of_global_services_and_containers_are_held() -> None:
    every = mounting("agent", "data", replicas=None)
    box = mounting("box", "data")
    box = replace(box, spec=replace(box.spec, mode=ContainerMode()), pinned_node=NodeId("n2"))
    world = Moving(every, box, volumes=[build.volume("data", "n2")])
    assert world.running("agent") == ["n2"]
    assert world.running("box") == ["n2"]
    world.write(begin_hold(world.state, "data", "volume backup reads it", world.now)[0])
    world.work_on()
    assert world.running("agent") == world.running("box") == []
    assert ready_to_copy(world.state, world.volume())
    told = "volume data is held: volume backup reads it"
    assert {t.detail.message for t in world.desired("agent")} == {
        f"its node cannot take it: 1 of 1 nodes cannot have it now: {told}"
    }
    writes, _ = release_hold(world.volume().id, world.work_of())(world.state, world.now, world.ids)
    world.write(writes)
    world.work_on()
    assert world.running("agent") == ["n2"]
    assert world.running("box") == ["n2"]


def test_a_frozen_task_is_ended() -> None:
    world = on_n1(mounting("db", "data"))
    (task,) = world.desired("db")
    world.write(Writes(tasks=[replace(task, desired_state=TaskState.FROZEN)]))
    world.move("data", to="n2")
    world.turns()
    assert not ready(world.state)
    assert world.state.tasks[task.id].desired_state is TaskState.SHUTDOWN


def test_a_hold_ends_by_itself_and_later_if_it_is_extended() -> None:
    world = on_n1(mounting("db", "data"))
    world.write(begin_hold(world.state, "data", "volume backup", world.now)[0])
    world.work_on()
    assert world.agenda.next_wake() <= world.now + VOLUME_HOLD == world.now + 30 * SECOND
    work = world.work_of()
    world.now = Instant(world.now + VOLUME_HOLD - SECOND)
    writes, held = extend_hold(world.volume().id, work)(world.state, world.now, world.ids)
    assert held
    assert held.work
    assert held.work.until == world.now + VOLUME_HOLD
    world.write(writes)
    world.now = Instant(world.now + 2 * SECOND)
    world.work_on()
    assert world.running("db") == []
    assert world.agenda.next_wake() <= world.work_of().until
    world.now = world.work_of().until
    world.work_on()
    assert world.volume().work is None
    assert world.running("db") == ["n1"]
    for change in (extend_hold, release_hold):
        assert change(world.volume().id, work)(world.state, world.now, world.ids) == (
            Writes(),
            None,
        )


@pytest.mark.parametrize(
    ("lost", "changes", "told"),
    [
        ("n1", {"state": NodeState.DOWN}, "the source node n1 is down"),
        ("n2", {"state": NodeState.DOWN}, "the destination node n2 is down"),
        ("n2", {"availability": Availability.DRAIN}, "the destination node n2 is drained"),
    ],
)
def test_a_lost_node_ends_the_move(lost: str, changes: dict[str, object], told: str) -> None:
    world = on_n1(mounting("db", "data"))
    world.move("data", to="n2")
    work = world.work_of()
    world.work_on()
    world.set_node(lost, **changes)
    world.work_on()
    left = world.volume()
    assert (left.work, left.copies, left.leaving, left.failure) == (None, ("n1",), ("n2",), told)
    assert finish_move(left.id, work)(world.state, world.now, world.ids) == (Writes(), None)
    assert fail_move(left.id, work, "late")(world.state, world.now, world.ids) == (Writes(), None)
    world.set_node(lost, state=NodeState.READY)
    world.work_on()
    assert world.running("db") == ["n1"]


def test_a_removed_node_ends_the_move_and_leaves_no_trace() -> None:
    world = on_n1(mounting("db", "data"))
    world.move("data", to="n2")
    world.work_on()
    world.write(remove_node(world.state, "n2", force=True)[0])
    left = world.volume()
    assert (left.work, left.copies, left.leaving) == (None, ("n1",), ())
    assert left.failure == "the destination node n2 was removed"
    world.work_on()
    assert world.running("db") == ["n1"]
    world.move("data", to="n3")
    world.write(remove_node(world.state, "n1", force=True)[0])
    left = world.volume()
    assert (left.work, left.copies, left.leaving) == (None, ("n1",), ("n3",))
    assert left.failure == "the source node n1 was removed"
    world.work_on()
    assert world.running("db") == []


def test_what_a_node_leaves_is_deleted_and_taken_out_of_the_volume() -> None:
    world = on_n1(mounting("db", "data"))
    world.move("data", to="n2")
    world.work_on()
    world.copied()
    assert world.state.copies.to_remove(NodeId("n1")) == ["data"]
    change = copies_removed(NodeId("n1"), [VolumeId("data")])
    world.write(change(world.state, world.now, world.ids)[0])
    left = world.volume()
    assert (left.copies, left.leaving) == (("n2",), ())
    assert world.state.copies.to_remove(NodeId("n1")) == []
    # The destination has a copy, and no report takes it out.
    change = copies_removed(NodeId("n2"), [VolumeId("data")])
    assert not change(world.state, world.now, world.ids)[0]


def test_a_move_that_was_cancelled_cannot_be_finished_by_the_copier() -> None:
    world = on_n1(mounting("db", "data"))
    world.move("data", to="n2")
    work = world.work_of()
    world.work_on()
    world.write(cancel_moves(world.state, ["data"], world.now)[0])
    world.work_on()
    assert world.running("db") == ["n1"]
    left = world.volume()
    assert (left.failure, left.leaving) == ("it was cancelled", ("n2",))
    assert finish_move(left.id, work)(world.state, world.now, world.ids)[1] is None


def test_a_forgotten_copy_frees_the_placement_and_ends_what_ran_there() -> None:
    world = on_n1(mounting("db", "data", replicas=2))
    world.set_node("n1", state=NodeState.DOWN)
    world.work_on()
    assert world.running("db") == ["n1", "n1"]
    world.write(forget_copy(world.state, "data", "n1", world.now)[0])
    world.work_on()
    (home,) = world.volume().copies
    assert home != "n1"
    assert world.running("db") == [home, home]
    assert world.volume().forgotten == ("n1",)
    old = [t for t in world.state.tasks.values() if t.node_id == "n1" and not is_terminal(t.state)]
    assert {t.desired_state for t in old} == {TaskState.SHUTDOWN}
    assert not world.missing()


def test_a_task_on_a_forgotten_node_has_the_old_data_again() -> None:
    world = on_n1(mounting("db", "data"))
    world.set_node("n1", state=NodeState.DOWN)
    for other in ("n2", "n3"):
        world.set_node(other, availability=Availability.DRAIN)
    world.write(forget_copy(world.state, "data", "n1", world.now)[0])
    world.work_on()
    assert world.volume().copies == ()
    world.set_node("n1", state=NodeState.READY)
    world.work_on()
    left = world.volume()
    assert (left.copies, left.forgotten) == (("n1",), ())
    assert world.running("db") == ["n1"]


def test_a_node_that_has_yet_to_delete_an_old_copy_gets_no_new_one() -> None:
    volume = replace(build.volume("data"), leaving=(NodeId("n1"), NodeId("n2")))
    world = Moving(mounting("db", "data"), volumes=[volume])
    assert world.running("db") == ["n3"]
    world = Moving(mounting("db", "data"), volumes=[volume], hosts=nodes(2))
    assert world.running("db") == []
    assert "2 of 2 nodes have yet to delete an old copy of volume data" in world.message("db")
    change = copies_removed(NodeId("n2"), [VolumeId("data")])
    world.write(change(world.state, world.now, world.ids)[0])
    world.work_on()
    assert world.running("db") == ["n2"]


def test_the_removal_of_a_volume_takes_all_that_nodes_may_have() -> None:
    full = replace(
        build.volume("data", "n1"), leaving=(NodeId("n2"),), forgotten=(NodeId("n3"), NodeId("x"))
    )
    world = Moving(volumes=[full])
    writes, removed = remove_volume(world.state, "data", world.now)
    assert (removed.copies, removed.leaving, removed.forgotten) == (("n1", "n2", "n3"), (), ())
    world.write(writes)
    for node_id in ("n1", "n2", "n3"):
        assert world.state.copies.to_remove(NodeId(node_id)) == ["data"]


def test_it_costs_only_what_changed() -> None:
    """100,000 volumes and 200 services: a move is decided about for the services that mount it."""
    many = [build.volume(f"v{number}", "n1") for number in range(100_000)]
    services = [mounting(f"s{number}", f"v{number}") for number in range(200)]
    world = Moving(*services, volumes=many)
    world.work.clear()
    world.move("v7", to="n2")
    world.turns()
    assert sum(one.services for one in world.work) <= 2
    assert sum(one.slots for one in world.work) <= 2
    world.work_on()
    assert [one.spec.name for one in ready(world.state)] == ["v7"]
    assert len(world.state.copies.working) == 1


def test_only_the_slot_with_the_volume_is_held_if_slots_have_their_own() -> None:
    names = ["data-1", "data-2"]
    db = mounting("db", "data-{{.Task.Slot}}", replicas=2)
    world = Moving(db, volumes=[build.volume(name, "n1") for name in names])
    assert world.running("db") == ["n1", "n1"]
    first, second = world.desired("db")
    world.move("data-1", to="n2")
    world.work_on()
    assert world.running("db") == ["n1"]
    assert second in world.desired("db")
    assert world.state.tasks[first.id].state is TaskState.SHUTDOWN
    assert [one.spec.name for one in ready(world.state)] == ["data-1"]
    waiting = world.desired("db")[0]
    assert waiting.detail.message == "no suitable node: volume data-1 is being moved to n2"
    assert world.copied("data-1")
    world.work_on()
    assert world.running("db") == ["n2", "n1"]
    assert not world.missing()


def test_a_service_that_may_leave_its_volumes_is_held_all_the_same() -> None:
    db = mounting("db", "data")
    template = db.spec.task_template
    placement = replace(template.placement, volumes="any")
    db = replace(db, spec=replace(db.spec, task_template=replace(template, placement=placement)))
    world = on_n1(db)
    assert world.running("db") == ["n1"]
    world.move("data", to="n2")
    world.work_on()
    assert world.running("db") == []
    assert world.volume().copies == ("n1",)
    assert world.message("db") == "no suitable node: volume data is being moved to n2"
    assert world.copied()
    world.work_on()
    assert world.running("db") == ["n2"]


def of_slots(replicas: int = 3, *more: str) -> Moving:
    """A service whose slots have volumes of their own, all of them on n1."""
    templates = tuple(f"{name}-{{{{.Task.Slot}}}}" for name in ("data", *more))
    names = [f"{name}-{slot}" for name in ("data", *more) for slot in range(1, replicas + 1)]
    volumes = [build.volume(name, "n1") for name in names]
    return Moving(mounting("db", *templates, replicas=replicas), volumes=volumes)


def test_a_move_of_a_slots_volume_ends_and_takes_the_task_of_this_slot_alone() -> None:
    world = of_slots()
    before = {task.slot: task.id for task in world.desired("db")}
    world.move("data-2", to="n2")
    assert not ready_to_copy(world.state, world.volume("data-2"))
    world.work_on()
    assert world.running("db") == ["n1", "n1"]
    assert ready(world.state) == [world.volume("data-2")]
    world.copied("data-2")
    world.work_on()
    after = {task.slot: (task.id, task.node_id) for task in world.desired("db")}
    assert after[2][1] == "n2"
    assert [after[slot] for slot in (1, 3)] == [(before[slot], "n1") for slot in (1, 3)]


def test_volumes_of_one_slot_move_together() -> None:
    world = of_slots(2, "log")
    with pytest.raises(Conflict, match="move both with pyswarm volume move data-2 log-2 --to n2"):
        world.move("data-2", to="n2")
    world.move("data-2", "log-2", to="n2")
    world.work_on()
    for name in ("data-2", "log-2"):
        world.copied(name)
    world.work_on()
    assert sorted(world.running("db")) == ["n1", "n2"]


def test_a_copy_of_a_slot_that_was_given_up_ends_its_task_alone() -> None:
    world = of_slots()
    kept = {task.slot: task.id for task in world.desired("db")}
    world.set_node("n1", state=NodeState.DOWN)
    world.write(forget_copy(world.state, "data-3", "n1", world.now)[0])
    world.turns()
    left = {task.slot: task.id for task in world.desired("db") if task.node_id == "n1"}
    assert left == {slot: kept[slot] for slot in (1, 2)}


def test_copies_that_were_given_up_cost_other_services_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = on_n1(mounting("db", "data"))

    def given_up(copies: Copies, nodes: object) -> Iterator[Volume]:
        raise AssertionError("a node may have thousands of them")

    monkeypatch.setattr(Copies, "given_up", given_up)
    service = world.state.services[ServiceId("db")]
    assert displaced(world.state, service, 10) == ([], True)
    world.put(replace(world.volume(), forgotten=(NodeId("n1"),), copies=()))
    assert displaced(world.state, service, 10) == ([1], True)
