"""What may not stay where it is, and what is forgotten."""

import pytest
from msgspec.structs import replace

from controller.requests.nodes import update_node
from pyswarm_core.clock import HOUR, SECOND, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NodeId
from pyswarm_core.objects import Task
from pyswarm_core.states import Availability, NodeState, TaskState
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld, changed
from tests.fixtures.build import NOW, dirty, node, nodes, service, task

SHUTDOWN = TaskState.SHUTDOWN


def _ended(slot: int, index: int, **fields: object) -> Task:
    return task(
        f"web.{slot}",
        task_id=f"old{index}",
        node="n1",
        state=TaskState.FAILED,
        desired=SHUTDOWN,
        **fields,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("change", [{"availability": Availability.DRAIN}, {"labels": {}}])
def test_task_leaves_at_once_what_may_no_longer_run_it(change: dict[str, object]) -> None:
    here = node("n1", labels={"zone": "a"})
    spec = build.template(constraints=["node.labels.zone==a"])
    state = build.state(
        nodes=[here, node("n2", labels={"zone": "a"})],
        services=[service("web", spec=spec)],
        tasks=[task("web.1", node="n1")],
    )
    world = BrainWorld(state)
    world.put_node(changed(here, **change))  # type: ignore[arg-type]
    written = world.decide(dirty(nodes=["n1"])).writes.tasks
    assert [(t.node_id, t.desired_state) for t in written] == [
        ("n1", SHUTDOWN),
        ("n2", TaskState.RUNNING),
    ]


def test_constraint_that_is_new_moves_the_tasks_that_do_not_meet_it() -> None:
    state = build.state(
        nodes=[node("n1"), node("n2", labels={"zone": "a"})],
        services=[service("web")],
        tasks=[task("web.1", node="n1")],
    )
    spec = build.template(constraints=["node.labels.zone==a"])
    state.apply(Writes(services=(service("web", spec=spec, version=2),)))
    written = BrainWorld(state).decide(dirty("web")).writes.tasks
    assert [(t.node_id, t.desired_state) for t in written] == [
        ("n1", SHUTDOWN),
        ("n2", TaskState.RUNNING),
    ]


def test_paused_or_unknown_node_keeps_what_it_has() -> None:
    hosts = [node("n1", availability=Availability.PAUSE), node("n2", state=NodeState.UNKNOWN)]
    tasks = [task("web.1", node="n1"), task("web.2", node="n2")]
    state = build.state(nodes=hosts, services=[service("web", replicas=2)], tasks=tasks)
    assert not BrainWorld(state).decide().writes


def test_tasks_of_a_removed_node_are_replaced_and_forgotten() -> None:
    state = build.state(nodes=nodes(2), services=[service("web")], tasks=[task("web.1", node="n1")])
    state.apply(Writes(removed_nodes=(node("n1").id,)))
    writes = BrainWorld(state).decide(dirty(nodes=["n1"])).writes
    assert writes.removed_tasks == ["web.1"]
    assert [t.node_id for t in writes.tasks] == ["n2"]


def test_task_of_a_node_that_stays_down_is_orphaned_after_a_day() -> None:
    lost = task("web.1", task_id="lost", node="n1", desired=SHUTDOWN)
    state = build.state(
        nodes=[node("n1", state=NodeState.DOWN), node("n2")],
        services=[service("web")],
        tasks=[lost, task("web.1", node="n2")],
    )
    world = BrainWorld(state)
    assert world.decide(dirty("web")).wakes == {"web": NOW + 24 * HOUR}
    world.now = Instant(NOW + 24 * HOUR)
    (orphan,) = world.decide(dirty("web")).writes.tasks
    assert (orphan.id, orphan.state) == ("lost", TaskState.ORPHANED)


def test_an_edit_of_a_node_that_is_down_does_not_restart_its_orphan_period() -> None:
    state = build.state(
        nodes=[node("n1", state=NodeState.DOWN), node("n2")],
        services=[service("web")],
        tasks=[
            task("web.1", task_id="lost", node="n1", desired=SHUTDOWN),
            task("web.1", node="n2"),
        ],
    )
    down = state.nodes[NodeId("n1")]
    spec = replace(down.spec, labels={"zone": "b"})
    state.apply(update_node(state, "n1", down.version, spec, Instant(NOW + 23 * HOUR))[0])
    assert BrainWorld(state).decide(dirty("web")).wakes == {"web": NOW + 24 * HOUR}


def test_history_beyond_its_limit_is_forgotten_oldest_first() -> None:
    tasks = [*(_ended(1, index) for index in range(4)), task("web.1", node="n1")]
    state = build.state(nodes=nodes(1), services=[service("web")], tasks=tasks, history=2)
    assert BrainWorld(state).decide(dirty("web")).writes.removed_tasks == ["old0", "old1"]


def test_end_that_fills_its_slot_is_never_forgotten() -> None:
    spec = build.template(condition="none")
    state = build.state(
        nodes=nodes(1), services=[service("web", spec=spec)], tasks=[_ended(1, 0)], history=0
    )
    assert not BrainWorld(state).decide(dirty("web")).writes


def test_ends_that_restart_counting_needs_outlive_the_limit() -> None:
    spec = build.template(max_attempts=3, window=3600 * SECOND)
    tasks = [_ended(1, index, restarts=index) for index in range(3)]
    state = build.state(
        nodes=nodes(1),
        services=[service("web", spec=spec)],
        tasks=[*tasks, task("web.1", node="n1", restarts=3)],
        history=1,
    )
    assert not BrainWorld(state).decide(dirty("web")).writes


def test_removed_task_is_forgotten_when_its_agent_has_ended_it() -> None:
    gone = task("web.2", node="n1", state=SHUTDOWN, desired=TaskState.REMOVE)
    state = build.state(
        nodes=nodes(1), services=[service("web")], tasks=[task("web.1", node="n1"), gone]
    )
    assert BrainWorld(state).decide(dirty("web")).writes.removed_tasks == ["web.2"]


def test_removed_service_with_tasks_on_a_lost_node_waits_until_they_are_orphaned() -> None:
    state = build.state(
        nodes=[node("n1", state=NodeState.DOWN)],
        services=[service("web", removing=True)],
        tasks=[task("web.1", node="n1", desired=TaskState.REMOVE)],
    )
    world = BrainWorld(state)
    assert world.decide(dirty("web")).wakes == {"web": NOW + 24 * HOUR}
    world.now = Instant(NOW + 24 * HOUR)
    world.settle(dirty("web"))
    assert not world.state.services
