"""The brain as a whole: what it writes for a state, and that it then has nothing more to write."""

from controller.brain.decide import decide
from pyswarm_core.decision import Writes
from pyswarm_core.states import TaskState
from tests.fixtures import build
from tests.fixtures.build import NOW, Numbered, all_dirty, dirty, node, nodes, service, task


def test_new_service_gets_its_replicas_spread_over_the_nodes() -> None:
    state = build.state(nodes=nodes(3), services=[service("web", replicas=3)])
    decision = decide(state, dirty("web"), NOW, Numbered())
    assert [(t.slot, t.node_id, t.state) for t in decision.writes.tasks] == [
        (1, "n1", TaskState.ASSIGNED),
        (2, "n2", TaskState.ASSIGNED),
        (3, "n3", TaskState.ASSIGNED),
    ]


def test_deciding_again_after_applying_finds_nothing_to_do() -> None:
    state = build.state(nodes=nodes(3), services=[service("web", replicas=3)])
    state.apply(decide(state, dirty("web"), NOW, Numbered()).writes)
    assert decide(state, all_dirty(state), NOW, Numbered(100)).writes == Writes()


def test_task_without_a_node_waits_and_says_why_in_numbers() -> None:
    spec = build.template(memory=2 * build.GIB)
    state = build.state(nodes=[node("n1", memory=build.GIB)], services=[service("web", spec=spec)])
    (waiting,) = decide(state, dirty("web"), NOW, Numbered()).writes.tasks
    assert waiting.state is TaskState.PENDING
    assert waiting.detail.message == (
        "no suitable node: 1 of 1 nodes lack memory (needs 2.0 GiB, most free is 1.0 GiB on n1)"
    )


def test_removed_service_loses_its_tasks_first_then_itself() -> None:
    gone = service("web", removing=True)
    state = build.state(nodes=nodes(1), services=[gone], tasks=[task("web.1", node="n1")])
    first = decide(state, dirty("web"), NOW, Numbered()).writes
    assert [t.desired_state for t in first.tasks] == [TaskState.REMOVE]
    state.apply(first)
    assert not decide(state, dirty("web"), NOW, Numbered()).writes
    ended = task("web.1", node="n1", state=TaskState.SHUTDOWN, desired=TaskState.REMOVE)
    state.apply(Writes(tasks=[ended]))
    last = decide(state, dirty("web"), NOW, Numbered())
    assert last.writes.removed_tasks == ["web.1"]
    assert list(last.again) == ["web"]
    state.apply(last.writes)
    assert decide(state, dirty("web"), NOW, Numbered()).writes.removed == ("service/web",)
