"""A container: one task at a time, on the node of its writable layer, removed if it asks for it."""

import pytest
from msgspec.structs import replace

from controller.api.changes.nodes import remove_node, stopped_by_drain
from controller.api.changes.services import (
    Rollback,
    Update,
    remove_service,
    rollback_service,
    update_service,
)
from controller.api.changes.tasks import restart_task
from controller.api.queries.progress import service_progress
from controller.api.queries.why import why
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import EventKind, Writes
from pyswarm_core.errors import AlreadyExists, Conflict
from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.kinds import NODE
from pyswarm_core.limits import AUTO_REMOVE_SHOWN, LAYERS_PROTOCOL
from pyswarm_core.objects import Node, Service, Task, TaskDetail
from pyswarm_core.specs import Limits, RestartCondition
from pyswarm_core.states import Availability, NodeState, TaskState
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld

DB = ServiceId("db")
ANY = RestartCondition.ANY
S = TaskState


def world_of(*services: Service, nodes: int = 3) -> BrainWorld:
    world = BrainWorld(build.state(nodes=build.nodes(nodes), services=services))
    world.converge()
    return world


def tasks(world: BrainWorld) -> list[Task]:
    return [task for task in world.state.tasks.values() if task.service_id == DB]


def only(world: BrainWorld) -> Task:
    (task,) = world.desired(DB)
    return task


def node(world: BrainWorld, node_id: str, **changes: object) -> None:
    old = world.state.nodes[NodeId(node_id)]
    status = replace(old.status, state=changes.pop("state", old.status.state))
    spec = replace(old.spec, **changes)
    world.put_node(replace(old, status=status, spec=spec))


def end(world: BrainWorld, state: TaskState, code: int = 0) -> Task:
    task = only(world)
    world.report(task.node_id, task, state, TaskDetail(exit_code=code, ran=SECOND))
    return task


def change(world: BrainWorld, **changes: object) -> Service:
    old = world.state.services[DB]
    spec = replace(old.spec, **changes)
    update = Update(old.id, old.version, spec)
    writes, service = update_service(world.state, update, (), world.now, world.ids)
    world.state.apply(writes)
    return service


def image(world: BrainWorld, name: str) -> Service:
    template = world.state.services[DB].spec.task_template
    container = replace(template.container_spec, image=name)
    return change(world, task_template=replace(template, container_spec=container))


def events(world: BrainWorld) -> list[tuple[str, str]]:
    """Those of the next decision, which is applied."""
    decision = world.decide()
    world.state.apply(decision.writes)
    return [(f"{one.type}.{one.action}", one.reason) for one in decision.events]


def test_its_first_task_pins_it_to_a_node_in_the_same_decision() -> None:
    world = BrainWorld(build.state(nodes=build.nodes(3), services=[build.container("db")]))
    decision = world.decide()
    (task,) = decision.writes.tasks
    (service,) = decision.writes.objects
    assert isinstance(service, Service)
    assert service.pinned_node == task.node_id != ""
    assert service.name_of(task) == "db"


def test_it_is_pinned_as_well_if_it_had_to_wait_for_a_node() -> None:
    world = world_of(build.container("db"), nodes=0)
    assert world.state.services[DB].pinned_node == ""
    world.put_node(build.node("n7"))
    world.converge()
    assert world.state.services[DB].pinned_node == only(world).node_id == "n7"


def test_later_tasks_run_on_its_node_however_full_that_is() -> None:
    world = world_of(build.container("db", condition=ANY))
    first = only(world)
    others = [build.task(f"x.{n}", node=first.node_id) for n in range(1, 9)]
    world.state.apply(Writes(objects=(build.service("x", replicas=8),), tasks=others))
    end(world, S.FAILED, 1)
    world.converge()
    assert only(world).id != first.id
    assert only(world).node_id == first.node_id


def test_a_container_that_ended_stays_as_it_is_until_it_is_started() -> None:
    world = world_of(build.container("db"))
    task = end(world, S.FAILED, 3)
    world.converge()
    assert [(one.id, one.detail.exit_code) for one in tasks(world)] == [(task.id, 3)]
    writes, _ = restart_task(world.state, task.id, world.now)
    world.state.apply(writes)
    world.converge()
    assert only(world).id != task.id
    assert only(world).node_id == task.node_id


def test_a_stopped_container_keeps_its_last_task_whatever_the_history_limit_is() -> None:
    world = world_of(build.container("db"))
    cluster = world.state.cluster
    spec = replace(cluster.spec, task_history_limit=0)
    world.state.apply(Writes(cluster=replace(cluster, spec=spec)))
    task = only(world)
    change(world, stopped=True)
    world.converge()
    assert [(one.id, one.state) for one in tasks(world)] == [(task.id, S.SHUTDOWN)]
    change(world, stopped=False)
    world.converge()
    assert only(world).node_id == task.node_id


@pytest.mark.parametrize("how", ["restart", "update", "start"])
def test_the_next_task_is_made_once_the_last_has_ended(how: str) -> None:
    world = world_of(build.container("db", condition=ANY))
    first = only(world)
    if how == "restart":
        writes, _ = restart_task(world.state, first.id, world.now)
        world.state.apply(writes)
    elif how == "update":
        image(world, "new")
    else:
        change(world, stopped=True)
        world.settle()
        change(world, stopped=False)
    for _ in range(3):
        world.settle()
        assert [(one.id, one.desired_state) for one in tasks(world)] == [(first.id, S.SHUTDOWN)]
        world.now = Instant(world.now + 60 * SECOND)
    world.report(first.node_id, world.state.tasks[first.id], S.SHUTDOWN)
    world.settle()
    assert only(world).node_id == first.node_id


def test_it_stays_on_a_node_that_is_down_and_its_policy_decides_when_the_node_is_back() -> None:
    world = world_of(build.container("db"))
    task = only(world)
    node(world, task.node_id, state=NodeState.DOWN)
    world.now = Instant(world.now + 48 * 3600 * SECOND)
    world.converge()
    assert [one.id for one in world.desired(DB)] == [task.id]
    node(world, task.node_id, state=NodeState.READY)
    end(world, S.FAILED, 137)
    world.converge()
    assert [(one.id, one.state) for one in tasks(world)] == [(task.id, S.FAILED)]


def test_a_drained_node_stops_it_and_it_waits_there() -> None:
    world = world_of(build.container("db", condition=ANY))
    first = only(world)
    node(world, first.node_id, availability=Availability.DRAIN)
    world.converge()
    waiting = only(world)
    kept = f"container db keeps its writable layer on {first.node_id}, which is drained"
    assert (waiting.state, waiting.detail.message) == (S.PENDING, kept)
    lines = why(world.state, "db", world.now)
    assert any("2 of 3 nodes do not have its writable layer, which is on" in one for one in lines)
    remedy = f"pyswarm node update --availability active {first.node_id}"
    assert any(remedy in one for one in lines)
    node(world, first.node_id, availability=Availability.ACTIVE)
    world.converge()
    assert (only(world).node_id, only(world).state) == (first.node_id, S.RUNNING)


def test_started_while_its_node_is_down_it_waits_and_says_so() -> None:
    world = world_of(build.container("db"))
    task = end(world, S.COMPLETE)
    world.converge()
    node(world, task.node_id, state=NodeState.DOWN)
    writes, _ = restart_task(world.state, task.id, world.now)
    world.state.apply(writes)
    world.converge()
    kept = f"container db keeps its writable layer on {task.node_id}, which is down"
    assert only(world).detail.message == kept
    node(world, task.node_id, state=NodeState.READY)
    world.converge()
    assert only(world).state is S.RUNNING


def test_with_its_node_removed_it_is_placed_anew_and_an_event_says_so() -> None:
    world = world_of(build.container("db", condition=ANY))
    first = only(world).node_id
    world.state.apply(Writes(removed=(NODE.object_name(first),)))
    told = events(world)
    lost = EventKind.LAYER_LOST.value
    assert (lost, "its node was removed, and its writable layer with it") in told
    world.converge()
    assert only(world).node_id == world.state.services[DB].pinned_node != first


def lose_node(world: BrainWorld) -> NodeId:
    """The node of the container is removed by force."""
    node_id = world.state.services[DB].pinned_node
    writes, _ = remove_node(world.state, node_id, force=True)
    world.state.apply(writes)
    world.converge()
    return node_id


def test_without_its_node_a_container_that_is_not_restarted_waits_for_its_users() -> None:
    world = world_of(build.container("db"))
    lost = lose_node(world)
    assert tasks(world) == []
    assert any("its node was removed" in one for one in why(world.state, "db", world.now))
    change(world, labels={"a": "b"})
    world.converge()
    assert tasks(world) == []
    change(world, stopped=True)
    change(world, stopped=False)
    world.converge()
    assert (only(world).state, only(world).node_id != lost) == (S.RUNNING, True)


def test_without_its_node_a_container_that_removes_itself_is_removed() -> None:
    world = world_of(build.container("db", auto_remove=True))
    lose_node(world)
    assert DB not in world.state.services


def test_an_unreadable_node_keeps_its_layer() -> None:
    """The container waits for it: it is neither placed anew nor removed."""
    for service in (build.container("db", condition=ANY), build.container("db", auto_remove=True)):
        world = world_of(service)
        pinned = world.state.services[DB].pinned_node
        name = NODE.object_name(pinned)
        world.state.apply(Writes(removed=(name,)))
        world.state.unreadable[name] = "garbage"
        told = events(world)
        world.converge()
        assert EventKind.LAYER_LOST.value not in dict(told)
        assert world.state.services[DB].pinned_node == pinned
        assert not [task for task in tasks(world) if task.node_id not in ("", pinned)]
        assert not any("was removed" in one for one in why(world.state, "db", world.now))


def test_a_node_that_keeps_layers_is_removed_by_force_only() -> None:
    world = world_of(build.container("db"))
    node_id = world.state.services[DB].pinned_node
    node(world, node_id, state=NodeState.DOWN)
    with pytest.raises(Conflict, match="keeps the writable layers of containers db, which would"):
        remove_node(world.state, node_id, force=False)
    assert remove_node(world.state, node_id, force=True)[0].removed


def test_whoever_drains_a_node_is_told_which_containers_it_stops() -> None:
    world = world_of(build.container("db"))
    node_id = world.state.services[DB].pinned_node
    assert stopped_by_drain(world.state, world.state.nodes[node_id]) == []
    node(world, node_id, availability=Availability.DRAIN)
    drained = world.state.nodes[node_id]
    stay = f"containers db keep their writable layers on {node_id}: they are stopped until it takes"
    assert stopped_by_drain(world.state, drained) == [f"{stay} tasks again"]


def test_an_agent_that_keeps_no_layers_gets_no_container() -> None:
    old = build.node("n1", protocol=LAYERS_PROTOCOL - 1)
    world = BrainWorld(build.state(nodes=[old], services=[build.container("db")]))
    world.converge()
    assert "an agent that keeps no layers" in only(world).detail.message
    assert any("remedy: upgrade pyswarm on n1" in one for one in why(world.state, "db", world.now))
    world.put_node(build.node("n1", protocol=LAYERS_PROTOCOL))
    world.converge()
    assert only(world).state is S.RUNNING


def test_an_update_replaces_the_task_on_the_same_node() -> None:
    world = world_of(build.container("db"))
    first = only(world)
    image(world, "new")
    world.converge()
    assert only(world).id != first.id
    assert (only(world).node_id, only(world).spec_version) == (first.node_id, 2)


def test_other_limits_keep_the_task() -> None:
    world = world_of(build.container("db"))
    task = only(world)
    template = world.state.services[DB].spec.task_template
    resources = replace(template.resources, limits=Limits(memory_bytes=64 * build.MIB))
    change(world, task_template=replace(template, resources=resources))
    world.settle()
    assert only(world).id == task.id


def test_a_renamed_container_keeps_its_task_and_gives_its_name_away() -> None:
    world = world_of(build.container("db"))
    task = only(world)
    service = change(world, name="old")
    world.converge()
    assert only(world).id == task.id
    assert (service.template_version, service.name_of(task)) == (1, "old")
    assert world.state.service_of_name == {"old": DB}
    other = replace(build.container("x"), spec=replace(build.container("x").spec, name="db"))
    world.state.apply(Writes(objects=(other,)))
    with pytest.raises(AlreadyExists, match='service "db" exists already'):
        change(world, name="db")


def test_a_rollback_keeps_the_name() -> None:
    world = world_of(build.container("db"))
    image(world, "new")
    world.converge()
    change(world, name="renamed")
    _, service = rollback_service(world.state, Rollback(DB, to=1), (), world.now, world.ids)
    assert service.spec.name == "renamed"
    assert service.spec.task_template.container_spec.image != "new"


def test_a_container_that_completed_and_removes_itself_has_converged() -> None:
    world = world_of(build.container("db", auto_remove=True))
    end(world, S.COMPLETE)
    for is_gone in (False, True):
        progress = service_progress(world.state, DB, world.now)
        assert (progress.completed, progress.failure, progress.gone) == (1, "", is_gone)
        world.settle()
    assert world.state.services[DB].removing


@pytest.mark.parametrize("state", [S.COMPLETE, S.FAILED, S.REJECTED])
def test_a_container_removes_itself_once_it_has_ended(state: TaskState) -> None:
    world = world_of(build.container("db", auto_remove=True))
    end(world, state)
    world.settle()
    assert world.state.services[DB].removing
    assert world.state.service_of_name == {}
    world.converge()
    assert DB not in world.state.services


def test_a_stopped_container_removes_itself() -> None:
    world = world_of(build.container("db", auto_remove=True))
    change(world, stopped=True)
    world.settle()
    assert not world.state.services[DB].removing
    world.converge()
    assert DB not in world.state.services


def test_a_container_that_was_never_started_does_not_remove_itself() -> None:
    made = build.container("db", auto_remove=True)
    world = world_of(replace(made, spec=replace(made.spec, stopped=True)))
    assert not world.state.services[DB].removing
    change(world, stopped=False)
    world.converge()
    assert only(world).state is S.RUNNING


def test_a_restarted_container_does_not_remove_itself() -> None:
    world = world_of(build.container("db", auto_remove=True))
    first = only(world)
    writes, _ = restart_task(world.state, first.id, world.now)
    world.state.apply(writes)
    world.converge()
    assert only(world).id != first.id


def test_the_end_of_a_container_that_removes_itself_is_shown_for_five_seconds() -> None:
    world = world_of(build.container("db", auto_remove=True))
    task = end(world, S.FAILED, 7)
    ended = world.now
    world.settle()
    assert world.state.tasks[task.id].detail.exit_code == 7
    progress = service_progress(world.state, DB, world.now)
    assert (progress.gone, [slot.state for slot in progress.slots]) == (True, [S.FAILED])
    assert "db failed: exit code 7" in progress.failure
    assert world.wakes[DB] == ended + AUTO_REMOVE_SHOWN == ended + 5 * SECOND
    world.now = Instant(ended + AUTO_REMOVE_SHOWN)
    world.settle()
    assert DB not in world.state.services


def test_a_container_that_is_removed_while_it_runs_is_gone_as_soon_as_it_has_ended() -> None:
    world = world_of(build.container("db", auto_remove=True))
    task = only(world)
    writes, _ = remove_service(world.state, DB, world.now)
    world.state.apply(writes)
    world.settle()
    world.report(task.node_id, world.state.tasks[task.id], S.SHUTDOWN)
    world.settle()
    assert DB not in world.state.services


def test_containers_on_a_node_that_is_down_are_no_work() -> None:
    """They are on an unfit node, and stay: no decision is unfinished because of them."""
    made = [build.container(f"c{n}") for n in range(5)]
    world = world_of(*made, nodes=1)
    node(world, "n1", state=NodeState.DOWN)
    world.settle()
    decision = world.decide()
    assert not decision.writes
    assert not decision.unfinished
    assert all(isinstance(one, Node) for one in world.state.nodes.values())
