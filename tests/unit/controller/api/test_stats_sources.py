"""Which nodes are sampled for a request, and which tasks have no container."""

import pytest

from controller.api.stats import sources
from controller.api.stats.sources import Targets, named_targets, stats_sources
from controller.brain.slices import finish
from pyswarm_core.decision import Writes
from pyswarm_core.errors import InvalidArgument, NotFound
from pyswarm_core.ids import TaskId
from pyswarm_core.limits import REFS_MAX
from pyswarm_core.state import State
from pyswarm_core.states import NodeState, TaskState
from tests.fixtures import build


@pytest.fixture
def state() -> State:
    """web runs on n1 and n2, which is down, db on n3; one task waits and one has ended."""
    found = build.state()
    nodes = [build.node(name) for name in ("n1", "n3", "n4")]
    nodes.append(build.node("n2", state=NodeState.DOWN))
    services = [build.service("web", replicas=3), build.service("db")]
    tasks = [
        build.task("web.1", node="n1"),
        build.task("web.2", node="n2"),
        build.task("web.3", node="n4", state=TaskState.PREPARING),
        build.task("db.1", node="n4", state=TaskState.FAILED, task_id="old", created=1),
        build.task("db.1", node="n3"),
    ]
    found.apply(Writes(objects=(*nodes, *services), tasks=tasks))
    return found


def everything(_: State, __: str) -> bool:
    return True


def names(state: State, *refs: str, idle: bool = False) -> tuple[list[str], list[str], list[str]]:
    """Nodes to sample, those that cannot be, tasks that do not run."""
    targets = finish(named_targets(state, refs))
    found = finish(stats_sources(state, targets, everything, idle=idle))
    return sorted(node.id for node in found.nodes), sorted(found.missing), sorted(found.idle)


def test_without_names_all_nodes_with_containers_are_sampled(state: State) -> None:
    assert names(state) == (["n1", "n3"], ["n2"], [])


def test_a_service_is_sampled_on_its_nodes(state: State) -> None:
    assert names(state, "web") == (["n1"], ["n2"], [])
    assert names(state, "db") == (["n3"], [], [])
    assert names(state, "db", "web.1") == (["n1", "n3"], [], [])


def test_a_task_is_found_by_its_slot_and_by_its_id(state: State) -> None:
    assert names(state, "web.1") == (["n1"], [], [])
    assert names(state, "db.1") == (["n3"], [], [])


def test_tasks_that_do_not_run_are_found_on_request(state: State) -> None:
    assert names(state, idle=True) == (["n1", "n3"], ["n2"], ["old", "web.3"])
    assert names(state, "web", idle=True)[2] == ["web.3"]


def test_a_missing_node_is_named_with_its_state(state: State) -> None:
    found = finish(stats_sources(state, Targets(), everything, idle=False))
    assert found.missing == {"n2": "stats of node n2 are missing: it is down"}


def test_nodes_are_those_of_tasks_that_the_caller_may_see(state: State) -> None:
    def sees(_: State, task_id: str) -> bool:
        return task_id in ("db.1", "old")

    found = finish(stats_sources(state, Targets(), sees, idle=True))
    assert ([node.id for node in found.nodes], found.missing, found.idle) == (["n3"], {}, ("old",))


def test_a_task_belongs_to_the_request_that_names_it_or_its_service(state: State) -> None:
    web, db = (state.tasks[TaskId(name)] for name in ("web.1", "db.1"))
    targets = finish(named_targets(state, ["web"]))
    assert (targets.has(web), targets.has(db)) == (True, False)
    targets = finish(named_targets(state, ["db.1"]))
    assert (targets.has(web), targets.has(db)) == (False, True)
    assert Targets().has(web)


def test_an_unknown_name_is_refused(state: State) -> None:
    with pytest.raises(NotFound, match="No such container: nosuch: "):
        finish(named_targets(state, ["web", "nosuch"]))


def test_names_are_bounded(state: State) -> None:
    with pytest.raises(InvalidArgument, match=f"expected at most {REFS_MAX}"):
        finish(named_targets(state, ["web"] * (REFS_MAX + 1)))


def test_tasks_that_do_not_run_are_bounded(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LIST_MAX", 1)
    with pytest.raises(InvalidArgument, match="more than 1 tasks do not run"):
        names(state, idle=True)


def test_many_tasks_are_examined_in_slices(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "SLICE_TASKS", 1)
    assert len(list(stats_sources(state, Targets(), everything, idle=True))) == 4  # slots
    assert len(list(stats_sources(state, Targets(), everything, idle=False))) == 4  # nodes
