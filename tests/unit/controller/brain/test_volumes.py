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
    assert "pyswarm volume rm data" in told
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
