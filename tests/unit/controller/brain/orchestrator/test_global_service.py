"""Global services: one task on every eligible node."""

from pyswarm_core.objects import Service
from pyswarm_core.states import Availability, NodeState, TaskState
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
