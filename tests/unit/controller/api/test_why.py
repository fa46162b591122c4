"""`why` names the cause in numbers and what would change it."""

import pytest
from msgspec.structs import replace

from controller.api.queries.why import explain, why
from controller.brain.orchestrator.quarantine import Quarantine
from controller.brain.slices import finish
from controller.leader.node_watch import ANSWERS, HELD_BACK
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.errors import NotFound
from pyswarm_core.objects import Node, Service, TaskDetail, UpdateStatus
from pyswarm_core.states import Availability, NodeState, TaskState
from tests.fixtures import build
from tests.fixtures.build import GIB, MIB, NOW, node, service, task

WAITING = task("web.1", state=TaskState.PENDING)


def test_waiting_for_memory_says_how_much_is_missing_where() -> None:
    spec = build.template(memory=2 * GIB)
    state = build.state(
        nodes=[node("n1", memory=GIB), node("n2", memory=1224 * MIB)],
        services=[service("web", spec=spec)],
        tasks=[WAITING],
    )
    assert why(state, "web.1", NOW) == [
        "task web.1 is pending, desired running",
        "2 of 2 nodes lack memory (needs 2.0 GiB, most free is 1.2 GiB on n2)",
        "remedy: free 824.0 MiB of memory on n2, or lower --reserve-memory of web to 1.2 GiB",
    ]


def test_waiting_for_a_label_says_how_to_give_it() -> None:
    spec = build.template(constraints=["node.labels.zone==a"])
    state = build.state(
        nodes=[node("n1", availability=Availability.DRAIN), node("n2")],
        services=[service("web", spec=spec)],
        tasks=[WAITING],
    )
    assert why(state, "web", NOW)[1:] == [
        "task web.1 is pending, desired running",
        "1 of 2 nodes are paused or drained",
        "1 of 2 nodes do not satisfy node.labels.zone==a",
        "remedy: label a node: pyswarm node update --label-add zone=a n2",
    ]


def test_waiting_because_of_the_maximum_per_node_says_so() -> None:
    spec = build.template(max_replicas=1)
    state = build.state(
        nodes=[node("n1")],
        services=[service("web", replicas=2, spec=spec)],
        tasks=[WAITING, task("web.2", node="n1")],
    )
    assert why(state, "web.1", NOW)[1:] == [
        "1 of 1 nodes already run 1 of its tasks, the maximum per node",
        "remedy: raise the maximum per node: pyswarm service update --replicas-max-per-node 2 web",
    ]


def test_out_of_memory_and_when_the_next_attempt_comes() -> None:
    failed = task(
        "web.1",
        node="n1",
        state=TaskState.FAILED,
        desired=TaskState.SHUTDOWN,
        detail=TaskDetail(oom=True, exit_code=137),
    )
    again = task(
        "web.1",
        task_id="next",
        node="n1",
        state=TaskState.READY,
        desired=TaskState.READY,
        restarts=1,
    )
    state = build.state(nodes=[node("n1")], services=[service("web")], tasks=[failed, again])
    assert why(state, "web.1", Instant(NOW + 2 * SECOND)) == [
        "task web.1 is failed, desired shutdown",
        "it was created 2.0 s ago from version 1",
        "it ran out of memory on n1 2.0 s ago, and was killed: its host had none left",
        "remedy: place it where memory is free: pyswarm service update --reserve-memory SIZE web",
        "restart policy: condition any, delay 5.0 s",
        "task next replaces it and starts in 3.0 s",
    ]


def test_an_end_that_is_final_says_which_rule_made_it_so() -> None:
    failed = task("web.1", node="n1", state=TaskState.FAILED, detail=TaskDetail(exit_code=3))
    spec = build.template(condition="none")
    state = build.state(nodes=[node("n1")], services=[service("web", spec=spec)], tasks=[failed])
    assert why(state, "web.1", NOW)[1:] == [
        "it was created 0.0 s ago from version 1",
        "it failed on n1 0.0 s ago: exit code 3",
        "remedy: see what it wrote: pyswarm service logs web.1",
        "it is not replaced: restart condition is none",
        "remedy: start it again: pyswarm service update --force web",
    ]


def test_a_task_that_has_to_leave_its_node_says_why() -> None:
    leaving = task("web.1", node="n1", desired=TaskState.SHUTDOWN)
    state = build.state(
        nodes=[node("n1", availability=Availability.DRAIN)],
        services=[service("web")],
        tasks=[leaving],
    )
    assert why(state, "web.1", NOW)[-1] == "it is moved off its node: node n1 is being drained"


def test_a_running_task_says_where_and_since_when() -> None:
    state = build.state(
        nodes=[node("n1")], services=[service("web")], tasks=[task("web.1", node="n1")]
    )
    assert why(state, "web.1", Instant(NOW + 3 * SECOND)) == [
        "task web.1 is running, desired running",
        "it was created 3.0 s ago from version 1",
        "it is on n1, running for 3.0 s",
    ]


def test_an_unknown_name_is_said_to_be_unknown() -> None:
    with pytest.raises(NotFound, match="nobody"):
        why(build.state(), "nobody", NOW)


def updating(web: Service) -> Service:
    status = UpdateStatus(started_at=NOW, from_version=1, to_version=web.template_version, slots=2)
    return replace(web, update_status=status)


def test_an_update_that_waits_for_a_task_that_fits_nowhere_says_so() -> None:
    big = build.template("new", memory=2 * GIB)
    state = build.state(
        nodes=[node("n1", memory=GIB)],
        services=[updating(service("web", replicas=2, spec=big, version=2, template_version=2))],
        tasks=[task("web.1", state=TaskState.PENDING, version=2), task("web.2", node="n1")],
    )
    assert why(state, "web", Instant(NOW + 3 * SECOND))[1:4] == [
        "the update to version 2 began 3.0 s ago: 1 of 2 tasks is to be replaced",
        "the update continues when web.1 (pending) serves",
        "task web.1 is pending, desired running",
    ]


def _not_ready(name: str, state: NodeState, message: str) -> Node:
    silent = node(name, state=state, since=NOW - 4 * SECOND)
    return replace(silent, status=replace(silent.status, message=message))


def test_nodes_that_are_not_ready_are_named_those_first_that_may_return() -> None:
    nodes = [
        _not_ready("n1", NodeState.DOWN, "heartbeat failure"),
        _not_ready("n2", NodeState.DISCONNECTED, ANSWERS),
        _not_ready("n3", NodeState.DISCONNECTED, HELD_BACK),
        _not_ready("n4", NodeState.UNKNOWN, ""),
    ]
    state = build.state(nodes=nodes, services=[service("web")], tasks=[WAITING])
    assert why(state, "web.1", NOW)[1:5] == [
        "4 of 4 nodes are not ready",
        f"n2 has been disconnected for 4.0 s: {ANSWERS}",
        f"n3 has been disconnected for 4.0 s: {HELD_BACK}",
        "n4 has been unknown for 4.0 s",
    ]


def test_a_task_that_waits_for_its_own_node_is_told_of_no_other() -> None:
    state = build.state(
        nodes=[
            _not_ready("n1", NodeState.DISCONNECTED, ANSWERS),
            _not_ready("n2", NodeState.DOWN, "heartbeat failure"),
        ],
        services=[service("web", replicas=None)],
        tasks=[task("web.2", state=TaskState.PENDING, node="n2")],
    )
    assert why(state, "web.2", NOW)[1:3] == [
        "2 of 2 nodes are not ready",
        "n2 has been down for 4.0 s: heartbeat failure",
    ]


def test_a_task_on_a_silent_node_says_what_is_known_of_that() -> None:
    state = build.state(
        nodes=[_not_ready("n1", NodeState.DISCONNECTED, ANSWERS)],
        services=[service("web")],
        tasks=[task("web.1", node="n1")],
    )
    assert f"n1 has been disconnected for 4.0 s: {ANSWERS}" in why(state, "web.1", NOW)


def test_a_user_that_cannot_be_read_is_explained_to_admins_only() -> None:
    state = build.state()
    state.unreadable["user/abcdef"] = "garbage"
    (line,) = finish(explain(state, "abc", NOW, Quarantine(), is_admin=True))
    assert line == "user abcdef cannot be read from the store: garbage"
    with pytest.raises(NotFound):
        finish(explain(state, "abc", NOW, Quarantine(), is_admin=False))
