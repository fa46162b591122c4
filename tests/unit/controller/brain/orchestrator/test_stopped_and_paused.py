"""What services that are stopped, and updates that are paused, wait for."""

from typing import Any

import pytest
from msgspec.structs import replace

from controller.api.changes.tasks import restart_task
from controller.api.queries.progress import service_progress
from controller.api.queries.why_update import waits_for
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.specs import (
    ReplicatedMode,
    RestartCondition,
    RestartPolicy,
    UpdateConfig,
    UpdateOrder,
)
from pyswarm_core.states import NodeState, TaskState, UpdateState
from tests.fixtures import build
from tests.unit.controller.brain.orchestrator.rollback_world import (
    play,
    roll_back,
    running_web,
    spec_of,
    state_of,
    status_of,
    the_web,
    update_web,
)


@pytest.mark.parametrize("replicas", [3, None], ids=["replicated", "global"])
def test_a_stopped_service_has_no_task_and_keeps_its_number_of_replicas(
    replicas: int | None,
) -> None:
    world = running_web(replicas)
    update_web(world, stopped=True)
    world.converge()
    web = the_web(world)
    assert not world.desired(web.id)
    assert len(world.state.tasks_of_service(web.id).slots) == 3, "the history stays"
    update_web(world, stopped=False)
    world.converge()
    assert len(world.desired(web.id)) == 3
    assert {t.spec_version for t in world.desired(web.id)} == {3}


@pytest.mark.parametrize("replicas", [3, None], ids=["replicated", "global"])
def test_an_update_waits_while_its_service_is_stopped_and_then_goes_on(
    replicas: int | None,
) -> None:
    world = running_web(replicas)
    update_web(world, "broken")
    world.settle()
    update_web(world, stopped=True)
    play(world, 2)
    web = the_web(world)
    assert state_of(world) is UpdateState.UPDATING
    waits = "when the service is started: pyswarm service start web"
    assert waits_for(world.state, web, world.now) == waits
    progress = service_progress(world.state, web.id, world.now)
    assert (progress.converged, progress.failure) == (True, "")
    update_web(world, stopped=False)
    play(world, 2, 3, 4)
    assert state_of(world) is UpdateState.ROLLBACK_COMPLETED
    web = the_web(world)
    assert web.spec.task_template.container_spec.image == "busybox"
    assert [task.state for task in world.desired(web.id)] == 3 * [TaskState.RUNNING]


def test_an_update_that_replaces_one_of_a_stopped_service_returns_to_the_same_version() -> None:
    world = running_web()
    update_web(world, "broken")
    world.settle()
    update_web(world, stopped=True)
    world.converge()
    update_web(world, "broken2")
    update_web(world, stopped=False)
    play(world, 2, 3, 4, 5)
    assert state_of(world) is UpdateState.ROLLBACK_COMPLETED
    assert spec_of(world).task_template.container_spec.image == "busybox"


def test_a_paused_update_is_not_resumed_by_scaling_or_stopping() -> None:
    world = running_web(update=UpdateConfig())
    update_web(world, "broken")
    play(world, 2)
    for fields in ({"mode": ReplicatedMode(replicas=4)}, {"stopped": True}, {"stopped": False}):
        update_web(world, **fields)
        assert state_of(world) is UpdateState.PAUSED
    play(world, 2)
    images = {t.slot: t.spec_version for t in world.desired(the_web(world).id)}
    assert (images[2], images[3]) == (1, 1), "they keep their template"


@pytest.mark.parametrize("change", [{}, {"labels": {"a": "b"}}, {"update_config": UpdateConfig(1)}])
def test_a_paused_update_is_resumed_by_any_other_update(change: dict[str, Any]) -> None:
    world = running_web(update=UpdateConfig(parallelism=2))
    update_web(world, "broken")
    play(world, 2)
    started = world.now
    update_web(world, **change)
    status = the_web(world).update_status
    assert status is not None
    assert (status.state, status.started_at) == (UpdateState.UPDATING, started)
    play(world)
    assert state_of(world) is UpdateState.COMPLETED


def test_a_paused_update_that_is_resumed_counts_the_slots_that_ended_too() -> None:
    world = running_web(6, UpdateConfig(max_failure_ratio=0.25))
    update_web(world, task_template=build.template(condition="on-failure"))
    for task in world.desired(the_web(world).id):
        if task.slot > 3:
            world.report(task.node_id, task, TaskState.COMPLETE)
    world.converge()
    update_web(world, task_template=build.template("broken", condition="on-failure"))
    while (status := status_of(world)).state is UpdateState.UPDATING:
        play(world, 3, seconds=1)
    assert (status.state, status.slots, status.failures) == (UpdateState.PAUSED, 6, 2)
    update_web(world)
    assert status_of(world).slots == 4, "three tasks that run, and one that ended"


def test_a_service_whose_replicas_are_none_has_no_update_to_wait_for() -> None:
    world = running_web(0)
    update_web(world, "new")
    assert the_web(world).update_status is None
    roll_back(world)
    world.settle()
    assert state_of(world) is UpdateState.ROLLBACK_COMPLETED


@pytest.mark.parametrize("order", UpdateOrder)
def test_a_task_stopped_in_a_rollback_is_replaced_though_the_one_before_it_is_not_restarted(
    order: UpdateOrder,
) -> None:
    config = UpdateConfig(order=UpdateOrder.START_FIRST)
    world = running_web(1, config, order=order)
    never = RestartPolicy(condition=RestartCondition.NONE)
    for image in ("busybox", "new"):
        update_web(world, task_template=replace(build.template(image), restart_policy=never))
    world.settle()
    world.now = Instant(world.now + SECOND)
    old, new = world.state.tasks.values()
    world.report(old.node_id, old, TaskState.FAILED)
    world.settle()
    world.report(new.node_id, new, TaskState.RUNNING)
    world.now = Instant(world.now + SECOND)
    roll_back(world)
    world.state.apply(restart_task(world.state, new.id, world.now)[0])
    play(world)
    assert [t.spec_version for t in world.desired(the_web(world).id)] == [
        the_web(world).spec_version
    ]
    assert state_of(world) is UpdateState.ROLLBACK_COMPLETED


def test_a_task_that_ends_as_its_update_pauses_is_replaced_from_its_own_template() -> None:
    world = running_web(update=UpdateConfig())
    update_web(world, "bad")
    for _ in range(20):
        world.settle()
        for found in list(world.state.tasks.values()):
            if found.spec_version == 1 or found.state < TaskState.STARTING:
                world.advance(found)
    new = [t for t in world.state.tasks.values() if t.state is TaskState.STARTING]
    assert len(new) == 1
    old = next(t for t in world.desired(the_web(world).id) if t.spec_version == 1)
    for task in (*new, old):
        world.report(task.node_id, task, TaskState.FAILED)
    world.settle()
    assert state_of(world) is UpdateState.PAUSED
    world.now = Instant(world.now + 10 * SECOND)
    world.settle()
    (made,) = (t for t in world.desired(the_web(world).id) if t.slot == old.slot)
    assert made.spec_version == 1


def test_tasks_made_from_an_earlier_template_meet_the_constraints_of_now() -> None:
    """A paused update makes them where a node is lost."""
    world = running_web(update=UpdateConfig())
    update_web(world, task_template=build.template("bad", constraints=["node.hostname!=n1"]))
    play(world, 2)
    assert state_of(world) is UpdateState.PAUSED
    old = next(t for t in world.desired(the_web(world).id) if t.spec_version == 1)
    world.put_node(build.node(old.node_id, state=NodeState.DOWN))
    play(world, 2)
    (made,) = (t for t in world.desired(the_web(world).id) if t.slot == old.slot)
    assert (made.spec_version, made.state) == (1, TaskState.RUNNING)
    assert made.node_id not in ("n1", old.node_id)
