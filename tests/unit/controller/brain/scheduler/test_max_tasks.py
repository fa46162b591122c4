"""A node gets no more tasks than it accepts, whatever they reserve; who waits says so."""

from controller.api.queries.why import why
from pyswarm_core.decision import Dirty, Writes
from pyswarm_core.ids import ServiceId, TaskId
from pyswarm_core.kinds import SERVICE
from pyswarm_core.states import TaskState
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld
from tests.fixtures.build import NOW, dirty, node, service, task


def test_a_fleet_takes_as_many_tasks_as_its_nodes_accept() -> None:
    state = build.state(
        nodes=[node("n1", max_tasks=2), node("n2", max_tasks=3), node("n3", max_tasks=1)],
        services=[service("web", replicas=20)],
        tasks=[task("db.1", node="n3")],
    )
    world = BrainWorld(state)
    world.settle(dirty("web"))
    placed = [t.node_id for t in world.state.tasks.values() if t.service_id == "web" and t.node_id]
    assert sorted(placed) == ["n1", "n1", "n2", "n2", "n2"]
    waiting = next(t for t in world.state.tasks.values() if t.state is TaskState.PENDING)
    assert waiting.detail.message == (
        "no suitable node: 3 of 3 nodes have as many tasks as they accept (1 to 3)"
    )
    told = why(world.state, "web", NOW)
    assert "3 of 3 nodes have as many tasks as they accept (1 to 3)" in told
    assert "remedy: remove tasks from n1, add a node, or raise --max-tasks of its agent" in told


def test_tasks_of_one_decision_count_too() -> None:
    state = build.state(
        nodes=[node("n1", max_tasks=3)],
        services=[service("web", replicas=2), service("api", replicas=2)],
    )
    world = BrainWorld(state)
    world.settle(dirty("web", "api"))
    assert sum(bool(t.node_id) for t in world.state.tasks.values()) == 3


def test_a_node_that_does_not_say_takes_any_number() -> None:
    state = build.state(nodes=[node("n1")], services=[service("web", replicas=3000)])
    writes = BrainWorld(state).decide(dirty("web")).writes
    assert {t.node_id for t in writes.tasks} == {"n1"}


def test_an_ended_task_leaves_room() -> None:
    state = build.state(
        nodes=[node("n1", max_tasks=1)],
        services=[service("web", replicas=1)],
        tasks=[task("old.1", node="n1", state=TaskState.COMPLETE, desired=TaskState.SHUTDOWN)],
    )
    (placed,) = BrainWorld(state).decide(dirty("web")).writes.tasks
    assert placed.node_id == "n1"


def test_the_end_of_a_task_on_a_full_node_helps_a_service_that_reserves_nothing() -> None:
    state = build.state(
        nodes=[node("n1", max_tasks=1)],
        services=[service("web", replicas=1), service("api", replicas=1)],
        tasks=[task("web.1", node="n1")],
    )
    world = BrainWorld(state)
    world.settle(dirty("api"))
    assert [t.node_id for t in state.tasks_of_service(ServiceId("api"))] == [""]
    state.apply(
        Writes(removed_tasks=[TaskId("web.1")], removed=(SERVICE.object_name(ServiceId("web")),))
    )
    world.settle(Dirty())
    assert [t.node_id for t in state.tasks_of_service(ServiceId("api"))] == ["n1"]
