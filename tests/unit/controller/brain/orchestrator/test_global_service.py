"""Global services: one task on every eligible node."""

import pytest
from msgspec.structs import replace

from pyswarm_core.decision import Writes
from pyswarm_core.objects import Service, Task, UpdateStatus
from pyswarm_core.specs import FailureAction, UpdateConfig, UpdateOrder
from pyswarm_core.states import Availability, NodeState, TaskState, UpdateState
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld, changed
from tests.fixtures.build import GIB, dirty, node, nodes, service, task


def _agent(**template: object) -> Service:
    return service("agent", replicas=None, spec=build.template(**template))  # type: ignore[arg-type]


def test_every_eligible_node_gets_one_task_in_the_slot_of_its_number() -> None:
    hosts = [
        node("n1"),
        node("n2", availability=Availability.PAUSE),
        node("n3", availability=Availability.DRAIN),
        node("n4", state=NodeState.DOWN),
        node("n5"),
    ]
    world = BrainWorld(build.state(nodes=hosts, services=[_agent()]))
    created = world.decide(dirty("agent")).writes.tasks
    assert [(t.slot, t.node_id, t.state) for t in created] == [
        (1, "n1", TaskState.ASSIGNED),
        (5, "n5", TaskState.ASSIGNED),
    ]


def test_constraint_limits_the_nodes() -> None:
    hosts = [node("n1", labels={"zone": "a"}), node("n2")]
    services = [_agent(constraints=["node.labels.zone==a"])]
    world = BrainWorld(build.state(nodes=hosts, services=services))
    assert [t.node_id for t in world.decide(dirty("agent")).writes.tasks] == ["n1"]


def test_node_that_joins_gets_its_task() -> None:
    state = build.state(nodes=nodes(2), services=[_agent()], tasks=[task("agent.1", node="n1")])
    created = BrainWorld(state).decide(dirty(nodes=["n2"])).writes.tasks
    assert [t.node_id for t in created] == ["n2"]


def test_paused_node_keeps_its_task() -> None:
    hosts = [node("n1", availability=Availability.PAUSE)]
    state = build.state(nodes=hosts, services=[_agent()], tasks=[task("agent.1", node="n1")])
    assert not BrainWorld(state).decide().writes


def test_drained_node_loses_its_task_and_nothing_replaces_it() -> None:
    host = node("n1")
    state = build.state(
        nodes=[host, node("n2")],
        services=[_agent()],
        tasks=[task("agent.1", node="n1"), task("agent.2", node="n2")],
    )
    world = BrainWorld(state)
    world.put_node(changed(host, availability=Availability.DRAIN))
    written = world.decide(dirty(nodes=["n1"])).writes.tasks
    assert [(t.id, t.desired_state) for t in written] == [("agent.1", TaskState.SHUTDOWN)]


def test_node_without_room_gets_a_task_that_waits_and_says_why() -> None:
    hosts = [node("n1", memory=GIB), node("n2")]
    world = BrainWorld(build.state(nodes=hosts, services=[_agent(memory=2 * GIB)]))
    by_node = {t.node_id: t for t in world.decide(dirty("agent")).writes.tasks}
    waiting = by_node[hosts[0].id]
    assert waiting.state is TaskState.PENDING
    assert "lack memory (needs 2.0 GiB, most free is 1.0 GiB on n1)" in waiting.detail.message
    assert by_node[hosts[1].id].state is TaskState.ASSIGNED


def test_a_task_that_failed_is_replaced_though_no_node_changed() -> None:
    failed = task("agent.1", node="n1", state=TaskState.FAILED)
    state = build.state(
        nodes=nodes(2), services=[_agent()], tasks=[failed, task("agent.2", node="n2")]
    )
    written = BrainWorld(state).decide(dirty("agent")).writes.tasks
    assert [(t.slot, t.node_id) for t in written if t.id != failed.id] == [(1, "n1")]


def test_an_outdated_task_that_waits_for_its_node_is_deleted_since_no_agent_can_end_it() -> None:
    waiting = task("agent.1", node="n1", state=TaskState.PENDING)
    updated = service(
        "agent", replicas=None, spec=build.template("new"), version=2, template_version=2
    )
    world = BrainWorld(build.state(nodes=nodes(1), services=[updated], tasks=[waiting]))
    writes = world.decide(dirty("agent")).writes
    assert writes.removed_tasks == [waiting.id]
    assert [(t.slot, t.spec_version, t.state) for t in writes.tasks] == [(1, 2, TaskState.ASSIGNED)]


@pytest.mark.parametrize("version", [1, 2])
def test_a_task_that_waits_for_its_node_is_deleted_and_replaced_once_users_restart_it(
    version: int,
) -> None:
    """No agent will end it, whether or not another template has followed since."""
    told = task("agent.1", node="n1", state=TaskState.PENDING, desired=TaskState.SHUTDOWN)
    agent = service(
        "agent", replicas=None, spec=build.template(), version=version, template_version=version
    )
    world = BrainWorld(build.state(nodes=nodes(1), services=[agent], tasks=[told]))
    writes = world.decide(dirty("agent")).writes
    assert writes.removed_tasks == [told.id]
    assert [(t.slot, t.node_id, t.state) for t in writes.tasks] == [(1, "n1", TaskState.ASSIGNED)]


def _updating(order: UpdateOrder, *tasks: Task) -> BrainWorld:
    """On three nodes, of which the second is paused; version 2 of the template is the current."""
    before = _agent()
    new = service("agent", replicas=None, spec=build.template("new"), version=2, template_version=2)
    new = build.updating(new, before.spec, UpdateConfig(order=order), slots=3)
    hosts = [node("n1"), node("n2", availability=Availability.PAUSE), node("n3")]
    tasks = tasks or tuple(task(f"agent.{n}", node=f"n{n}") for n in (1, 2, 3))
    return BrainWorld(build.state(nodes=hosts, services=[new], tasks=tasks))


def _versions(world: BrainWorld) -> list[tuple[int, int, TaskState]]:
    return [(t.slot, t.spec_version, t.state) for t in world.desired("agent")]


def _status(world: BrainWorld) -> UpdateStatus:
    (agent,) = world.state.services.values()
    assert agent.update_status is not None
    return agent.update_status


@pytest.mark.parametrize("order", UpdateOrder)
def test_an_update_leaves_the_task_of_a_paused_node_and_completes(order: UpdateOrder) -> None:
    world = _updating(order)
    world.converge()
    running = TaskState.RUNNING
    assert _versions(world) == [(1, 2, running), (2, 1, running), (3, 2, running)]
    assert _status(world).state is UpdateState.COMPLETED


@pytest.mark.parametrize("order", UpdateOrder)
def test_a_node_that_is_active_again_gets_the_task_that_it_missed(order: UpdateOrder) -> None:
    world = _updating(order)
    world.converge()
    world.put_node(node("n2"))
    assert world.decide(dirty(nodes=["n2"])).writes
    world.converge()
    running = TaskState.RUNNING
    assert _versions(world) == [(n, 2, running) for n in (1, 2, 3)]
    assert _status(world).state is UpdateState.COMPLETED


def test_what_fails_on_a_node_that_is_active_again_pauses_and_undoes_nothing() -> None:
    world = _updating(UpdateOrder.STOP_FIRST)
    (agent,) = world.state.services.values()
    config = UpdateConfig(failure_action=FailureAction.ROLLBACK)
    agent = replace(agent, spec=replace(agent.spec, update_config=config))
    world.state.apply(Writes(objects=(agent,)))
    world.converge()
    world.put_node(node("n2"))
    world.settle()
    for _ in range(6):
        for found in list(world.state.tasks.values()):
            if found.slot == 2 and found.spec_version == 2 and found.state is TaskState.STARTING:
                world.report("n2", found, TaskState.FAILED)
            else:
                world.advance(found)
        world.settle()
    (agent,) = world.state.services.values()
    assert _status(world).state is UpdateState.PAUSED
    assert "its spec was rolled out before" in _status(world).message
    assert agent.spec_version == 2


def test_a_new_task_that_waits_for_a_paused_node_holds_up_no_other() -> None:
    waiting = task("agent.2", node="n2", state=TaskState.PENDING, version=2, task_id="new")
    old = [task(f"agent.{n}", node=f"n{n}") for n in (1, 2, 3)]
    world = _updating(UpdateOrder.START_FIRST, *old, waiting)
    world.converge()
    running = TaskState.RUNNING
    assert _versions(world) == [
        (1, 2, running),
        (2, 1, running),
        (2, 2, TaskState.PENDING),
        (3, 2, running),
    ]
    assert _status(world).state is UpdateState.COMPLETED


def test_the_task_of_a_node_that_can_start_none_now_is_replaced_last() -> None:
    """It is not stopped, because nothing could replace it; the update waits for its node."""
    world = _updating(UpdateOrder.STOP_FIRST)
    world.put_node(node("n2", state=NodeState.DISCONNECTED))
    world.converge()
    running = TaskState.RUNNING
    assert _versions(world) == [(1, 2, running), (2, 1, running), (3, 2, running)]
    assert _status(world).state is UpdateState.UPDATING
    world.put_node(node("n2"))
    assert world.decide(dirty(nodes=["n2"])).writes
    world.converge()
    assert _versions(world) == [(n, 2, running) for n in (1, 2, 3)]
