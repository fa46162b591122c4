"""Tasks run where the only copy of their volumes is, and a slot that writes has one task."""

from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from controller.brain.demands import current_demand
from controller.brain.scheduler.ledger import Ledger
from controller.brain.scheduler.remedy import remedies
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.indexes.tasks import is_desired
from pyswarm_core.kinds import VOLUME
from pyswarm_core.limits import VOLUMES_PROTOCOL
from pyswarm_core.objects import Node, Service, Task
from pyswarm_core.specs import ContainerMode, UpdateConfig, UpdateOrder
from pyswarm_core.states import Availability, NodeState, TaskState, is_terminal
from pyswarm_core.volumes.limits import MOUNT_KINDS_PROTOCOL
from pyswarm_core.volumes.mounts import VolumeOptions
from pyswarm_core.volumes.volume import ANONYMOUS, Volume, VolumePlacement
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld
from tests.fixtures.build import node, nodes, service, with_mount

RUNNING = TaskState.RUNNING


def mounting(
    name: str, *volumes: str, replicas: int | None = 1, read_only: bool = False
) -> Service:
    made = service(name, replicas=replicas)
    for number, volume in enumerate(volumes):
        spec = with_mount(made.spec, volume, f"/d{number}", read_only=read_only)
        made = replace(made, spec=spec)
    return made


def world(
    *services: Service, hosts: Iterable[Node] = (), volumes: Iterable[Volume] = ()
) -> BrainWorld:
    found = BrainWorld(build.state(nodes=hosts or nodes(3), services=services))
    found.state.apply(Writes(objects=tuple(volumes)))
    return found


def copies(found: BrainWorld) -> dict[str, tuple[str, ...]]:
    return {one.spec.name: one.copies for one in found.state.of(VOLUME).values()}


def where(found: BrainWorld, name: str) -> list[str]:
    return [task.node_id for task in found.desired(name) if task.state is RUNNING]


def messages(found: BrainWorld, name: str) -> list[str]:
    return [task.detail.message for task in found.desired(name)]


def moved(found: BrainWorld, node_id: str, **changes: object) -> None:
    old = found.state.nodes[NodeId(node_id)]
    state = changes.get("state", old.status.state)
    availability = changes.get("availability", old.spec.availability)
    status = replace(old.status, state=state, since=found.now)
    spec = replace(old.spec, availability=availability)
    found.state.apply(Writes(objects=(replace(old, status=status, spec=spec),)))


def test_the_first_task_chooses_the_node_and_all_others_run_there() -> None:
    found = world(mounting("db", "data", replicas=3), mounting("backup", "data", read_only=True))
    found.converge()
    ((home,),) = copies(found).values()
    assert {*where(found, "db"), *where(found, "backup")} == {home}
    assert len(where(found, "db")) == 3


def test_the_volume_and_the_task_are_of_one_decision() -> None:
    found = world(mounting("db", "data"))
    writes = found.decide().writes
    (volume,), (task,) = writes.of(VOLUME), writes.tasks
    assert (volume.spec.name, volume.copies) == ("data", (task.node_id,))
    assert volume.spec.placement is VolumePlacement.PINNED


def test_the_node_that_is_chosen_has_room_for_all_replicas() -> None:
    spec = build.template(memory=build.GIB)
    made = service("db", replicas=3, spec=spec)
    small, large = node("n1", memory=2 * build.GIB), node("n2", memory=4 * build.GIB)
    found = world(replace(made, spec=with_mount(made.spec, "data")), hosts=[small, large])
    found.converge()
    assert copies(found) == {"data": ("n2",)}
    assert where(found, "db") == ["n2"] * 3


def test_a_volume_that_exists_decides() -> None:
    found = world(mounting("db", "data"), volumes=[build.volume("data", "n3")])
    found.converge()
    assert where(found, "db") == ["n3"]


def test_another_service_in_the_same_decision_follows() -> None:
    found = world(*(mounting(f"s{number}", "data") for number in range(5)))
    found.converge()
    assert len({node_id for number in range(5) for node_id in where(found, f"s{number}")}) == 1


def test_a_task_keeps_its_place_on_a_node_that_is_down() -> None:
    found = world(mounting("db", "data"), mounting("web"))
    found.converge()
    ((home,),) = copies(found).values()
    before = found.desired("db")
    moved(found, home, state=NodeState.DOWN)
    found.converge()
    assert found.desired("db") == before
    assert home not in where(found, "web")
    moved(found, home, state=NodeState.READY)
    found.converge()
    assert found.desired("db") == before


def test_a_drained_node_keeps_its_volume_and_the_task_waits_with_both_names() -> None:
    found = world(mounting("db", "data"))
    found.converge()
    ((home,),) = copies(found).values()
    moved(found, home, availability=Availability.DRAIN)
    found.converge()
    assert where(found, "db") == []
    host = found.state.nodes[NodeId(home)].description.hostname
    assert messages(found, "db") == [f"volume data has its only copy on {host}, which is drained"]
    demand = current_demand(found.state, found.state.services[ServiceId("db")], found.now)
    told = " ".join(remedies(Ledger(found.state.node_table), demand, "db"))
    assert f"pyswarm node update --availability active {host}" in told
    assert "pyswarm volume move data --to NODE" in told
    moved(found, home, availability=Availability.ACTIVE)
    found.converge()
    assert where(found, "db") == [home]


def test_after_its_node_was_removed_no_task_starts_on_an_empty_copy() -> None:
    found = world(mounting("db", "data"), volumes=[build.volume("data", "gone")])
    found.converge()
    assert where(found, "db") == []
    told = "volume data has its only copy on gone, which was removed"
    assert messages(found, "db") == [told]


def test_volumes_on_two_nodes_keep_a_task_waiting() -> None:
    held = [build.volume("data", "n1"), build.volume("logs", "n2")]
    found = world(mounting("db", "data", "logs"), volumes=held)
    found.converge()
    (told,) = messages(found, "db")
    assert told == "no suitable node: volume data is on n1 and volume logs is on n2"


def test_a_name_that_an_unreadable_volume_may_have_is_not_created() -> None:
    found = world(mounting("db", "data"))
    found.state.unreadable["volume/x"] = "ValueError: torn"
    found.converge()
    assert messages(found, "db") == ["volume data may be one that cannot be read from the store"]
    assert copies(found) == {}


def test_agents_of_an_earlier_protocol_get_no_task_with_mounts() -> None:
    old = [node("n1", protocol=VOLUMES_PROTOCOL - 1)]
    found = world(mounting("db", "data"), hosts=old)
    found.converge()
    (told,) = messages(found, "db")
    assert f"protocol below {VOLUMES_PROTOCOL}" in told


def test_agents_of_an_earlier_protocol_get_no_task_with_a_path_in_a_volume() -> None:
    made = mounting("db", "data")
    container = made.spec.task_template.container_spec
    (mount,) = container.mounts
    mount = replace(mount, volume_options=VolumeOptions(subpath="a"))
    template = replace(made.spec.task_template, container_spec=replace(container, mounts=(mount,)))
    made = replace(made, spec=replace(made.spec, task_template=template))
    found = world(made, hosts=[node("n1", protocol=MOUNT_KINDS_PROTOCOL - 1)])
    found.converge()
    (told,) = messages(found, "db")
    assert f"protocol below {MOUNT_KINDS_PROTOCOL}" in told


def test_a_global_service_has_a_copy_on_each_node() -> None:
    found = world(mounting("logs", "data", replicas=None))
    found.converge()
    assert sorted(copies(found)["data"]) == ["n1", "n2", "n3"]
    (volume,) = found.state.of(VOLUME).values()
    assert volume.spec.placement is VolumePlacement.ANY
    moved(found, "n1", state=NodeState.DOWN)
    found.converge()
    assert "n1" not in where(found, "logs")


def test_of_a_pinned_volume_a_global_service_has_one_task() -> None:
    found = world(mounting("logs", "data", replicas=None), volumes=[build.volume("data")])
    found.converge()
    assert len(copies(found)["data"]) == 1
    assert where(found, "logs") == list(copies(found)["data"])


def living(found: BrainWorld, slot: int) -> list[Task]:
    held = found.state.tasks_of_service(ServiceId("db")).slots[slot]
    return [task for task in held if not is_terminal(task.state)]


@pytest.mark.parametrize("read_only", [False, True])
def test_a_slot_that_writes_is_updated_stop_first(*, read_only: bool) -> None:
    old = mounting("db", "data", read_only=read_only)
    found = world(old)
    found.converge()
    template = old.spec.task_template
    new = replace(template, container_spec=replace(template.container_spec, image="new"))
    updated = replace(old, spec=replace(old.spec, task_template=new))
    updated = replace(updated, spec_version=2, template_version=2)
    config = UpdateConfig(order=UpdateOrder.START_FIRST)
    updated = build.updating(updated, old.spec, config)
    status = replace(updated.update_status, started_at=found.now)  # type: ignore[type-var]
    found.state.apply(Writes(objects=(replace(updated, update_status=status),)))
    most = 0
    for _ in range(60):
        found.state.apply(found.decide().writes)
        most = max(most, len([one for one in living(found, 1) if is_desired(one)]))
        for task in list(found.state.tasks.values()):
            found.advance(task)
    found.converge()
    assert most == (2 if read_only else 1)
    assert {task.spec_version for task in found.desired("db")} == {2}


@pytest.mark.parametrize("auto_remove", [False, True])
def test_an_anonymous_volume_goes_with_a_container_that_removes_itself(
    *, auto_remove: bool
) -> None:
    job = build.container("job", auto_remove=auto_remove)
    job = replace(job, spec=with_mount(job.spec, "a" * 64))
    anonymous = build.volume("a" * 64, labels={ANONYMOUS: ""})
    found = world(job, volumes=[anonymous])
    found.converge()
    (task,) = found.desired("job")
    found.report(task.node_id, task, TaskState.COMPLETE)
    found.converge()
    assert isinstance(job.spec.mode, ContainerMode)
    (left,) = found.state.of(VOLUME).values()
    assert left.removing is auto_remove
    assert left.copies == (task.node_id,)


def updated(old: Service, found: BrainWorld, config: UpdateConfig) -> Service:
    template = old.spec.task_template
    new = replace(template, container_spec=replace(template.container_spec, image="new"))
    made = replace(old, spec=replace(old.spec, task_template=new), spec_version=2)
    made = build.updating(replace(made, template_version=2), old.spec, config)
    status = replace(made.update_status, started_at=found.now)  # type: ignore[type-var]
    return replace(made, update_status=status)


def test_slots_that_are_removed_on_a_node_that_is_down_hold_up_no_update() -> None:
    four = mounting("db", "data", replicas=4)
    found = world(four)
    found.converge()
    ((home,),) = copies(found).values()
    moved(found, home, state=NodeState.DOWN)
    two = mounting("db", "data", replicas=2)
    found.state.apply(Writes(objects=(two,)))
    found.settle()
    kept = {task.slot for task in found.desired("db")}
    assert len(kept) == 2
    found.state.apply(Writes(objects=(updated(two, found, UpdateConfig(parallelism=2)),)))
    found.settle()
    slots = found.state.tasks_of_service(ServiceId("db")).slots
    assert {slot for slot in slots if slots[slot][-1].desired_state is TaskState.SHUTDOWN} == kept


def test_a_slot_that_is_removed_is_not_filled_again_while_its_task_may_write() -> None:
    found = world(mounting("db", "data", replicas=2))
    found.converge()
    found.state.apply(Writes(objects=(mounting("db", "data"),)))
    found.settle()
    found.state.apply(Writes(objects=(mounting("db", "data", replicas=2),)))
    found.settle()
    slots = found.state.tasks_of_service(ServiceId("db")).slots
    assert [len(living(found, slot)) for slot in slots] == [1] * len(slots)
    assert len(found.desired("db")) == 2


def leaving(name: str, *volumes: str, replicas: int | None = 1, placement: str = "any") -> Service:
    made = mounting(name, *volumes, replicas=replicas)
    template = made.spec.task_template
    template = replace(template, placement=replace(template.placement, volumes=placement))
    return replace(made, spec=replace(made.spec, task_template=template))


def placement(found: BrainWorld) -> VolumePlacement:
    (volume,) = found.state.of(VOLUME).values()
    return volume.spec.placement


def test_a_service_chooses_the_placement_of_the_volumes_that_it_creates() -> None:
    found = world(leaving("web", "cache", replicas=3))
    found.converge()
    assert sorted(copies(found)["cache"]) == sorted(where(found, "web")) == ["n1", "n2", "n3"]
    assert placement(found) is VolumePlacement.ANY
    found = world(leaving("logs", "data", replicas=None, placement="pinned"))
    found.converge()
    assert where(found, "logs") == list(copies(found)["data"])
    assert placement(found) is VolumePlacement.PINNED


def test_any_stays_with_the_data_of_a_pinned_volume_while_its_node_takes_tasks() -> None:
    found = world(leaving("db", "data", replicas=2), volumes=[build.volume("data", "n2")])
    found.converge()
    assert where(found, "db") == ["n2"] * 2
    assert (copies(found), placement(found)) == ({"data": ("n2",)}, VolumePlacement.PINNED)


@pytest.mark.parametrize(
    "change", [{"state": NodeState.DOWN}, {"availability": Availability.DRAIN}]
)
def test_any_is_the_remedy_for_a_lost_node(change: dict[str, object]) -> None:
    found = world(mounting("db", "data"))
    found.converge()
    ((home,),) = copies(found).values()
    moved(found, home, **change)
    found.converge()
    assert where(found, "db") in ([], [home])
    found.state.apply(Writes(objects=(leaving("db", "data"),)))
    found.converge()
    (now,) = where(found, "db")
    assert now != home
    assert copies(found) == {"data": (home, now)}
    assert placement(found) is VolumePlacement.ANY


def test_any_on_a_removed_node() -> None:
    found = world(leaving("db", "data"), volumes=[build.volume("data", "gone")])
    found.converge()
    assert len(where(found, "db")) == 1
    assert placement(found) is VolumePlacement.ANY


def lost_home(found: BrainWorld) -> str:
    """The node of the only volume, which is down from now on."""
    ((home,),) = copies(found).values()
    moved(found, home, state=NodeState.DOWN)
    return home


def test_any_does_not_take_a_volume_from_a_service_that_relies_on_it() -> None:
    found = world(mounting("db", "data"), mounting("web", "data", read_only=True))
    found.converge()
    home = lost_home(found)
    found.state.apply(Writes(objects=(leaving("web", "data"),)))
    found.converge()
    assert (copies(found), placement(found)) == ({"data": (home,)}, VolumePlacement.PINNED)
    moved(found, home, state=NodeState.READY, availability=Availability.DRAIN)
    found.converge()
    (told,) = messages(found, "web")
    assert told.endswith("service db relies on it")


def test_any_leaves_a_volume_once_no_service_relies_on_it() -> None:
    db = mounting("db", "data")
    found = world(db, leaving("web", "data"), volumes=[build.volume("data", "n2")])
    found.converge()
    moved(found, "n2", availability=Availability.DRAIN)
    found.converge()
    assert where(found, "web") == []
    found.state.apply(Writes(objects=(leaving("db", "data"),)))
    found.converge()
    assert "n2" not in [*where(found, "db"), *where(found, "web")]
    assert (len(where(found, "db")), len(where(found, "web"))) == (1, 1)


@pytest.mark.parametrize("others", [("db",), ()])
def test_any_spreads_a_volume_without_a_copy_unless_a_service_relies_on_it(
    others: tuple[str, ...],
) -> None:
    db = [mounting(one, "data", replicas=0) for one in others]
    found = world(leaving("web", "data", replicas=3), *db, volumes=[build.volume("data")])
    found.converge()
    assert len({*where(found, "web")}) == (1 if others else 3)
    assert len(copies(found)["data"]) == (1 if others else 3)


def test_any_does_not_choose_a_node_that_deletes_an_old_copy() -> None:
    old = replace(build.volume("data", "n1"), leaving=(NodeId("n2"),))
    found = world(leaving("web", "data", replicas=4), volumes=[old])
    moved(found, "n1", availability=Availability.DRAIN)
    found.converge()
    assert where(found, "web") == ["n3"] * 4
    assert copies(found) == {"data": ("n1", "n3")}


def test_slots_with_volumes_of_their_own_leave_those_that_nobody_relies_on() -> None:
    web = leaving("web", "data-{{.Task.Slot}}", replicas=2)
    held = [build.volume(f"data-{slot}", "n1") for slot in (1, 2)]
    found = world(web, mounting("db", "data-2", replicas=0), volumes=held)
    moved(found, "n1", availability=Availability.DRAIN)
    found.converge()
    assert len(where(found, "web")) == 1
    assert len(copies(found)["data-1"]) == 2
    assert copies(found)["data-2"] == ("n1",)


def test_a_node_whose_copy_was_given_up_is_the_last_choice() -> None:
    old = replace(build.volume("data"), forgotten=(NodeId("n1"), NodeId("n2")))
    found = world(mounting("db", "data"), volumes=[old])
    found.converge()
    assert where(found, "db") == ["n3"]
    found = world(mounting("db", "data"), volumes=[old], hosts=nodes(2))
    found.converge()
    (at,) = where(found, "db")
    assert copies(found) == {"data": (at,)}
    (now,) = found.state.of(VOLUME).values()
    assert at not in now.forgotten


def test_any_does_not_create_a_volume_that_may_be_unreadable() -> None:
    found = world(leaving("web", "data"))
    found.state.unreadable["volume/x"] = "damaged"
    found.converge()
    assert not found.state.of(VOLUME)
    (told,) = messages(found, "web")
    assert told == "volume data may be one that cannot be read from the store"
