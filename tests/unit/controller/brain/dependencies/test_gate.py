"""Services that wait for others, as a decision sees them."""

import pytest
from msgspec.structs import replace

from controller.api.queries.progress import service_progress
from controller.api.queries.why import why
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Dirty
from pyswarm_core.ids import ServiceId
from pyswarm_core.indexes.dependents import awaits, is_held
from pyswarm_core.limits import PENDING_SHOWN
from pyswarm_core.objects import TaskDetail
from pyswarm_core.specs import ReplicatedMode
from pyswarm_core.states import NodeState, TaskState
from tests.fixtures.brain_world import changed
from tests.unit.controller.brain.dependencies.shop import (
    COMPLETED,
    HEALTHY,
    IS_HEALTHY,
    RUNS,
    STARTED,
    Shop,
    needs,
    service,
)


def test_tasks_wait_until_all_tasks_of_the_dependency_run() -> None:
    shop = Shop(service("db", replicas=2), service("web", needs("db"), replicas=3))
    shop.settle()
    assert shop.states("web") == ["pending"] * 3
    assert shop.messages("web") == {"waits for db to start (0 of 2)"}
    first = shop.desired("db")[0]
    shop.now = Instant(shop.now + SECOND)
    shop.report(first.node_id, first, TaskState.RUNNING)
    shop.tell("db")
    assert shop.messages("web") == {"waits for db to start (1 of 2)"}
    shop.come("db")
    assert shop.states("web") == ["assigned"] * 3
    assert shop.messages("web") == {""}


def test_a_change_of_the_dependency_alone_lets_them_start() -> None:
    """No other service is looked at, and nobody has to be connected."""
    others = [service(f"other{number}") for number in range(5)]
    shop = Shop(service("db"), service("web", needs("db")), *others)
    shop.settle()
    task = shop.desired("db")[0]
    shop.report(task.node_id, task, TaskState.RUNNING)
    dirty = Dirty()
    dirty.services.add(ServiceId("db"))
    decision = shop.decide(dirty)
    assert decision.work.services == 2
    assert [one.id for one in decision.writes.objects] == ["web"]
    assert list(decision.again) == ["web"]


def test_a_dependency_that_nobody_waits_for_wakes_nobody() -> None:
    shop = Shop(service("db"), service("web", needs("db")))
    shop.converge()
    dirty = Dirty()
    dirty.services.add(ServiceId("db"))
    assert shop.decide(dirty).work.services == 1


def test_waiting_tasks_are_not_tried_when_nodes_change() -> None:
    shop = Shop(service("db", needs("nothing")))
    shop.settle()
    assert shop.states("db") == ["pending"]
    assert not shop.state.unplaced
    dirty = Dirty()
    dirty.nodes.update(shop.state.nodes)
    assert shop.decide(dirty).work.services == 0


def test_released_tasks_that_find_no_node_are_tried_when_nodes_change() -> None:
    shop = Shop(service("db"), service("web", needs("db"), replicas=2))
    nodes = list(shop.state.nodes.values())
    shop.settle()
    for task in shop.desired("db"):
        shop.report(task.node_id, task, TaskState.RUNNING)
    for node in nodes:
        shop.put_node(replace(node, spec=replace(node.spec, labels={"full": "yes"})))
    placement = replace(
        shop.of("web").spec.task_template.placement, constraints=("node.labels.full==no",)
    )
    template = replace(shop.of("web").spec.task_template, placement=placement)
    shop.change("web", task_template=template)
    shop.settle()
    assert shop.states("web") == ["pending"] * 2
    assert not awaits(shop.of("web"))
    assert list(shop.state.unplaced) == ["web"]


def test_a_service_that_is_waited_for_may_be_made_later() -> None:
    shop = Shop(service("web", needs("db")))
    shop.settle()
    assert shop.messages("web") == {"waits for db, which does not exist"}
    shop.apply(service("db"))
    shop.come("db")
    assert shop.states("web") == ["assigned"]


def test_a_dependency_that_dies_later_stops_nobody_and_holds_up_no_restart() -> None:
    shop = Shop(service("db", condition="none"), service("web", needs("db", HEALTHY), replicas=2))
    shop.settle()
    shop.come("db", detail=IS_HEALTHY)
    shop.come("web")
    shop.end("db", 1)
    assert shop.states("web") == ["running"] * 2
    shop.now = Instant(shop.now + 5 * SECOND)
    shop.end("web", 1)
    assert shop.states("web") == ["assigned"] * 2
    shop.come("web")
    shop.change("web", mode=ReplicatedMode(replicas=4))
    assert sorted(shop.states("web")) == ["assigned"] * 2 + ["running"] * 2
    node = shop.state.nodes[shop.desired("web")[0].node_id]
    shop.put_node(changed(node, state=NodeState.DOWN))
    shop.settle()
    assert "pending" not in shop.states("web")


def test_a_task_of_a_released_template_does_not_wait_after_another_update() -> None:
    """Its spec was updated since the release, and its template was not."""
    shop = Shop(service("db", condition="none"), service("web", needs("db")))
    shop.converge()
    shop.end("db", 1)
    shop.change("web", labels={"tier": "front"})
    shop.force("web")
    gate, web = shop.of("web").gate, shop.of("web")
    assert awaits(web)
    assert gate.released_version == web.spec_version - 1
    assert is_held(web, web.spec_version)
    assert not is_held(web, web.spec_version - 1)


def test_an_update_waits_while_the_tasks_of_before_run_on_and_are_replaced() -> None:
    shop = Shop(service("db", condition="none"), service("web", needs("db"), replicas=2))
    shop.converge()
    shop.end("db", 1)
    shop.force("web")
    web = shop.of("web")
    assert {task.spec_version for task in shop.desired("web")} == {1}
    assert shop.states("web") == ["running"] * 2
    lines = why(shop.state, "web", shop.now)
    assert "the update continues when its dependencies let it: db ended with exit code 1" in lines
    shop.now = Instant(shop.now + 5 * SECOND)
    shop.end("web", 1)
    assert {task.spec_version for task in shop.desired("web")} == {1}
    assert shop.states("web") == ["assigned"] * 2, "restarts of earlier tasks do not wait"
    shop.change("web", mode=ReplicatedMode(replicas=3))
    assert sorted(shop.states("web")) == ["assigned"] * 2 + ["pending"], "a new one waits"
    shop.force("db")
    shop.converge()
    assert {task.spec_version for task in shop.desired("web")} == {3}
    assert shop.of("web").spec_version == web.spec_version + 1


def test_a_service_that_is_started_again_waits_again() -> None:
    shop = Shop(service("db"), service("web", needs("db")))
    shop.converge()
    shop.together(["db", "web"], stopped=True)
    shop.converge()
    shop.change("web", stopped=False)
    assert shop.messages("web") == {"waits for db, which is stopped"}
    shop.change("db", stopped=False)
    shop.come("db")
    assert shop.states("web") == ["assigned"]


def test_scaled_from_nothing_is_a_start() -> None:
    shop = Shop(service("db"), service("web", needs("db"), replicas=2))
    shop.converge()
    shop.change("web", mode=ReplicatedMode(replicas=0))
    shop.converge()
    shop.change("db", stopped=True)
    shop.change("web", mode=ReplicatedMode(replicas=2))
    assert shop.states("web") == ["pending"] * 2


def test_dependencies_that_change_alone_replace_and_stop_no_task() -> None:
    shop = Shop(service("web"), service("db"))
    shop.converge()
    before = shop.desired("web")
    shop.change("web", depends_on=(needs("nothing"),))
    shop.converge()
    shop.change("web", depends_on=(needs("nothing"), needs("db", HEALTHY)))
    shop.converge()
    assert shop.desired("web") == before
    assert not awaits(shop.of("web"))
    shop.change("web", depends_on=())
    shop.change("web", depends_on=(needs("nothing"),))
    assert shop.desired("web") == before
    assert not awaits(shop.of("web"))


def test_dependencies_that_change_while_tasks_wait_count_at_once() -> None:
    shop = Shop(service("web", needs("nothing")))
    shop.settle()
    shop.change("web", depends_on=())
    assert shop.states("web") == ["assigned"]


def test_a_waiting_service_that_is_updated_starts_with_the_new_template_alone() -> None:
    shop = Shop(service("db"), service("web", needs("db"), replicas=2))
    shop.settle()
    shop.force("web")
    assert shop.states("web") == ["pending"] * 2
    shop.come("db")
    shop.converge()
    assert {task.spec_version for task in shop.desired("web")} == {2}


def test_a_global_service_waits_on_each_node() -> None:
    shop = Shop(service("db"), service("web", needs("db"), replicas=None))
    shop.settle()
    assert shop.states("web") == ["pending"] * 3
    shop.come("db")
    assert shop.states("web") == ["assigned"] * 3


def test_of_many_waiting_replicas_few_are_stored() -> None:
    shop = Shop(service("db"), service("web", needs("db"), replicas=500))
    shop.settle()
    assert len(shop.desired("web")) == PENDING_SHOWN
    lines = why(shop.state, "web", shop.now)
    assert "500 replicas wait for its dependencies, 20 of them as tasks" in lines
    shop.come("db")
    assert len(shop.desired("web")) == 500


def test_messages_are_rewritten_once_a_second() -> None:
    shop = Shop(service("db", replicas=3), service("web", needs("db")))
    shop.settle()
    first, second, _ = shop.desired("db")
    shop.now = Instant(shop.now + SECOND)
    shop.report(first.node_id, first, TaskState.RUNNING)
    shop.tell("db")
    shop.report(second.node_id, second, TaskState.RUNNING)
    shop.tell("db")
    assert shop.messages("web") == {"waits for db to start (1 of 3)"}
    assert shop.wakes[ServiceId("web")] == shop.now + SECOND
    shop.now = Instant(shop.now + SECOND)
    shop.tell("web")
    assert shop.messages("web") == {"waits for db to start (2 of 3)"}


def test_a_failed_dependency_is_a_failure_of_the_wait_until_it_is_updated() -> None:
    shop = Shop(service("migrate", condition="none"), service("web", needs("migrate", COMPLETED)))
    shop.settle()
    assert shop.messages("web") == {"waits for migrate to complete (0 of 1)"}
    assert not service_progress(shop.state, ServiceId("web"), shop.now).failure
    shop.now = Instant(shop.now + SECOND)
    shop.end("migrate", 1)
    assert shop.messages("web") == {"migrate ended with exit code 1"}
    progress = service_progress(shop.state, ServiceId("web"), shop.now)
    assert progress.failure == "migrate ended with exit code 1"
    assert why(shop.state, "web", shop.now)[-4:] == [
        "task web.1 is pending, desired running",
        "migrate ended with exit code 1",
        "remedy: run it again: pyswarm service update --force migrate",
        "see: pyswarm why migrate",
    ]
    shop.force("migrate")
    shop.end("migrate")
    assert shop.states("web") == ["assigned"]


def test_why_tells_what_a_dependency_waits_for() -> None:
    shop = Shop(service("web", needs("api", HEALTHY)), service("api", needs("db")), service("db"))
    shop.settle()
    assert why(shop.state, "web", shop.now)[-3:] == [
        "waits for api to be healthy (0 of 1)",
        "api itself waits for db to start (0 of 1)",
        "see: pyswarm why api",
    ]


@pytest.mark.parametrize("condition", [STARTED, HEALTHY, COMPLETED])
def test_an_optional_dependency_is_waited_for_until_it_fails(condition: str) -> None:
    optional = needs("db", type(STARTED)(condition), required=False)
    shop = Shop(service("db", condition="none"), service("web", optional))
    shop.settle()
    assert shop.states("web") == ["pending"]
    shop.end("db", 1)
    assert shop.states("web") == ["assigned"]


@pytest.mark.parametrize("what", ["absent", "removed", "stopped"])
def test_an_optional_dependency_that_is_not_there_is_no_reason_to_wait(what: str) -> None:
    shop = Shop(service("db"), service("web", needs("db", required=False)))
    if what == "absent":
        shop = Shop(service("web", needs("db", required=False)))
    elif what == "stopped":
        shop.change("db", stopped=True)
    else:
        shop.together(["db"], stopped=False)
    shop.settle()
    assert shop.states("web") == ["assigned"]


def test_a_removed_dependency_is_waited_for_by_name() -> None:
    shop = Shop(service("db"), service("web", needs("db")))
    shop.settle()
    shop.now = Instant(shop.now + SECOND)
    shop.together(["db"], stopped=False)
    assert shop.messages("web") == {"waits for db, which does not exist"}


def test_a_task_that_ran_before_its_dependency_was_known_to_be_unhealthy_is_kept() -> None:
    shop = Shop(service("db", check=("CMD", "true")), service("web", needs("db", HEALTHY)))
    shop.settle()
    shop.come("db", TaskState.STARTING, TaskDetail(message="starting"))
    assert shop.states("web") == ["pending"]
    shop.come("db", detail=IS_HEALTHY)
    assert shop.states("web") == ["assigned"]
    shop.come("db", detail=RUNS)
    assert shop.states("web") == ["assigned"]
