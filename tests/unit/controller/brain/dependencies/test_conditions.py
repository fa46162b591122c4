"""The conditions of dependencies, from stored tasks."""

import pytest
from msgspec.structs import replace

from controller.brain.dependencies.conditions import Unmet, message_of, unmet
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.ids import ServiceId
from pyswarm_core.objects import Task, TaskDetail
from pyswarm_core.specs import ReplicatedMode
from pyswarm_core.stacks.limits import DEPENDENCY_SLOTS
from pyswarm_core.states import TaskState
from tests.fixtures import build
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


def left(shop: Shop) -> list[Unmet]:
    """What web's tasks wait for."""
    return unmet(shop.state, shop.of("web"))


def test_all_tasks_of_the_dependency_count() -> None:
    shop = Shop(service("db", replicas=3), service("web", needs("db")))
    shop.settle()
    for done, task in enumerate(shop.desired("db")):
        assert message_of(left(shop)) == f"waits for db to start ({done} of 3)"
        shop.report(task.node_id, task, TaskState.RUNNING)
    assert left(shop) == []


def test_a_service_that_does_one_thing_has_started_when_it_has_done_it() -> None:
    shop = Shop(service("job", replicas=2, condition="none"), service("web", needs("job")))
    shop.settle()
    first, second = shop.desired("job")
    shop.report(first.node_id, first, TaskState.COMPLETE)
    shop.tell("job")
    assert message_of(left(shop)) == "waits for job to start (1 of 2)"
    shop.report(second.node_id, second, TaskState.RUNNING)
    assert left(shop) == []


def test_a_service_that_has_ended_does_not_become_healthy() -> None:
    shop = Shop(service("job", condition="none"), service("web", needs("job", HEALTHY)))
    shop.settle()
    shop.end("job")
    assert left(shop) == [Unmet("job ended with exit code 0", True, ServiceId("job"))]


def test_completed_is_each_slot_that_ended_with_0() -> None:
    shop = Shop(
        service("job", replicas=2, condition="none"), service("web", needs("job", COMPLETED))
    )
    shop.settle()
    shop.come("job")
    assert message_of(left(shop)) == "waits for job to complete (0 of 2)"
    first, second = shop.desired("job")
    shop.report(first.node_id, first, TaskState.COMPLETE)
    shop.tell("job")
    assert message_of(left(shop)) == "waits for job to complete (1 of 2)"
    shop.report(second.node_id, second, TaskState.COMPLETE)
    assert left(shop) == []


def test_completed_holds_while_the_task_is_run_again() -> None:
    shop = Shop(service("job", condition="any"), service("web", needs("job", COMPLETED)))
    shop.settle()
    shop.come("job")
    shop.now = Instant(shop.now + 5 * SECOND)
    task = shop.desired("job")[0]
    shop.report(task.node_id, task, TaskState.COMPLETE)
    shop.state.apply(shop.decide().writes)
    assert left(shop) == []


def test_a_failed_task_that_is_replaced_is_no_failure_yet() -> None:
    shop = Shop(service("job", condition="on-failure"), service("web", needs("job", COMPLETED)))
    shop.settle()
    for failures in (1, 2, 3):
        shop.now = Instant(shop.now + 5 * SECOND)
        shop.end("job", 7)
        assert [why.failed for why in left(shop)] == [failures >= 3], "a crash loop"
    assert message_of(left(shop)) == "job ended with exit code 7"
    shop.end("job")
    assert left(shop) == []


@pytest.mark.parametrize(
    ("detail", "text"),
    [
        (TaskDetail(exit_code=1), "ended with exit code 1"),
        (TaskDetail(exit_code=137, oom=True), "ran out of memory"),
        (TaskDetail(error="unhealthy: no answer"), "failed: unhealthy: no answer"),
    ],
)
def test_how_the_dependency_ended_is_told(detail: TaskDetail, text: str) -> None:
    shop = Shop(service("db", condition="none"), service("web", needs("db", HEALTHY)))
    shop.settle()
    shop.come("db", TaskState.FAILED, detail)
    assert left(shop) == [Unmet(f"db {text}", True, ServiceId("db"))]


def test_of_several_conditions_those_that_failed_come_first() -> None:
    shop = Shop(
        service("db"),
        service("job", condition="none"),
        service("web", needs("db"), needs("job", COMPLETED), needs("cache")),
    )
    shop.settle()
    shop.end("job", 2)
    assert message_of(left(shop)) == (
        "job ended with exit code 2; waits for db to start (0 of 1);"
        " waits for cache, which does not exist"
    )


def test_no_replicas_are_no_reason_to_wait() -> None:
    shop = Shop(service("db", replicas=0), service("web", needs("db", HEALTHY)))
    shop.settle()
    assert left(shop) == []


def test_a_global_service_without_a_node_is_waited_for() -> None:
    db = service("db", replicas=None)
    placed = replace(
        db.spec.task_template,
        placement=replace(db.spec.task_template.placement, constraints=("node.labels.a==b",)),
    )
    db = replace(db, spec=replace(db.spec, task_template=placed))
    shop = Shop(db, service("web", needs("db")))
    shop.settle()
    assert message_of(left(shop)) == "waits for db, for which there is no node"
    node = next(iter(shop.state.nodes.values()))
    shop.put_node(replace(node, spec=replace(node.spec, labels={"a": "b"})))
    shop.settle()
    assert message_of(left(shop)) == "waits for db to start (0 of 1)"


@pytest.mark.parametrize("required", [True, False])
def test_a_service_without_a_health_check_never_becomes_healthy(required: bool) -> None:
    shop = Shop(service("db"), service("web", needs("db", HEALTHY, required=required)))
    shop.settle()
    assert message_of(left(shop)) == "waits for db to be healthy (0 of 1)"
    shop.come("db", detail=RUNS)
    lacks = "db and its image have no health check, which condition service_healthy needs"
    assert left(shop) == ([Unmet(lacks, True, ServiceId("db"))] if required else [])
    assert shop.states("web") == (["pending"] if required else ["assigned"])


def test_the_image_may_have_the_health_check() -> None:
    shop = Shop(service("db"), service("web", needs("db", HEALTHY)))
    shop.settle()
    shop.come("db", detail=IS_HEALTHY)
    assert left(shop) == []


def test_a_check_that_was_switched_off_later_is_told() -> None:
    shop = Shop(service("web", needs("db", HEALTHY)))
    shop.settle()
    shop.apply(service("db", check=("NONE",)))
    off = "db has its health check switched off, which condition service_healthy needs"
    assert message_of(left(shop)) == off


def test_a_dependency_that_is_updated_is_judged_by_its_new_tasks() -> None:
    shop = Shop(service("db"), service("web"))
    shop.converge()
    shop.change("web", depends_on=(needs("db"),))
    shop.force("web")
    shop.converge()
    shop.force("db")
    assert message_of(left(shop)) == "waits for db to start (0 of 1)"
    shop.stop_tasks("db")
    shop.come("db")
    assert left(shop) == []


def test_few_slots_of_a_large_dependency_are_looked_at() -> None:
    many = 3 * DEPENDENCY_SLOTS
    job = service("job", replicas=many, condition="none")
    web = service("web", needs("job", COMPLETED))
    tasks = [_ended(slot) for slot in range(1, many)]
    last = build.task(f"job.{many}", node="n1")
    state = build.state(nodes=build.nodes(3), services=[job, web], tasks=[*tasks, last])
    assert (
        message_of(unmet(state, web)) == f"waits for job to complete ({DEPENDENCY_SLOTS} of {many})"
    )
    state = build.state(nodes=build.nodes(3), services=[job, web], tasks=[*tasks, _ended(many)])
    assert unmet(state, web) == []


def _ended(slot: int) -> Task:
    return build.task(
        f"job.{slot}", node="n1", state=TaskState.COMPLETE, desired=TaskState.SHUTDOWN
    )


def test_a_dependency_that_shrinks_is_judged_by_what_is_left() -> None:
    shop = Shop(service("db", replicas=2), service("web", needs("db")))
    shop.settle()
    first = shop.desired("db")[0]
    shop.report(first.node_id, first, TaskState.RUNNING)
    shop.change("db", mode=ReplicatedMode(replicas=1))
    assert left(shop) == []
    assert shop.states("web") == ["assigned"]


def test_started_is_what_is_meant_if_nothing_is_said() -> None:
    assert needs("db").condition is STARTED
