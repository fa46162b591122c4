"""What may not stay where it is, and what is forgotten."""

import pytest
from msgspec.structs import replace

from controller.api.changes.nodes import update_node
from pyswarm_core.clock import HOUR, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NodeId
from pyswarm_core.kinds import NODE
from pyswarm_core.limits import DETAIL_LENGTH_OLD, HISTORY_MAX, UNFINISHED_MAX
from pyswarm_core.objects import Task, TaskDetail
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
    state.apply(Writes(objects=(service("web", spec=spec, version=2),)))
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
    state.apply(Writes(removed=(NODE.object_name(node("n1").id),)))
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
    decision = world.decide(dirty("web"))
    (orphan,) = decision.writes.tasks
    assert (orphan.id, orphan.state) == ("lost", TaskState.ORPHANED)
    assert [event.reason for event in decision.events] == ["orphaned: its node stayed down"]


def test_a_task_that_is_orphaned_at_once_counts_as_history() -> None:
    ended = build.task("web.1", node="n2", state=TaskState.FAILED, desired=TaskState.SHUTDOWN)
    lost = build.task("web.1", node="n1", task_id="lost")
    down = build.node("n1", state=NodeState.DOWN, since=NOW - 25 * HOUR)
    state = build.state(
        nodes=[down, build.node("n2")],
        services=[build.service("web")],
        tasks=[ended, lost],
        history=1,
    )
    world = BrainWorld(state)
    world.settle()
    assert [task.state for task in state.tasks.values()] == [
        TaskState.ORPHANED,
        TaskState.ASSIGNED,
    ]


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


def test_no_limit_keeps_more_than_a_chunk_has_room_for() -> None:
    tasks = [*(_ended(1, index) for index in range(HISTORY_MAX + 5)), task("web.1", node="n1")]
    for history in (-1, HISTORY_MAX + 1):
        state = build.state(nodes=nodes(1), services=[service("web")], tasks=tasks, history=history)
        removed = BrainWorld(state).decide(dirty("web")).writes.removed_tasks
        assert removed == [f"old{index}" for index in range(5)]


def test_older_ends_keep_the_beginning_of_their_text() -> None:
    long = TaskDetail(error="\N{PILE OF POO}" * 128, exit_code=7)
    tasks = [_ended(1, index, detail=long) for index in range(4)]
    state = build.state(
        nodes=nodes(1),
        services=[service("web")],
        tasks=[*tasks, task("web.1", node="n1", state=TaskState.FAILED, detail=long)],
    )
    writes = BrainWorld(state).decide(dirty("web")).writes
    written = [one for one in writes.tasks if one.id.startswith("old")]
    assert [one.id for one in written] == ["old0", "old1", "old2"]
    assert {len(one.detail.error.encode()) for one in written} == {DETAIL_LENGTH_OLD - 1}
    assert {one.detail.exit_code for one in written} == {7}


def _unfinished(count: int, where: str) -> list[Task]:
    return [
        task("web.1", task_id=f"old{index}", node=where, desired=SHUTDOWN) for index in range(count)
    ]


def test_a_slot_whose_tasks_do_not_end_gets_no_further_ones() -> None:
    def desired(count: int) -> int:
        tasks = _unfinished(count, "n1")
        state = build.state(nodes=nodes(2), services=[service("web")], tasks=tasks)
        world = BrainWorld(state)
        world.settle()
        return len(world.desired("web"))

    assert desired(UNFINISHED_MAX - 1) == 1
    assert desired(UNFINISHED_MAX) == 0


def test_nobody_waits_for_too_many_tasks_on_hosts_that_are_down() -> None:
    state = build.state(
        nodes=[node("n1", state=NodeState.DOWN), node("n2")],
        services=[service("web")],
        tasks=_unfinished(UNFINISHED_MAX, "n1"),
    )
    world = BrainWorld(state)
    world.settle()
    assert [one.node_id for one in world.desired("web")] == ["n2"]
    orphans = [one.id for one in state.tasks.values() if one.state is TaskState.ORPHANED]
    assert orphans == ["old0"]


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
