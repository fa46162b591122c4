"""Rollbacks: what a failed update returns to, which tasks stay, and what stops a rollback."""

import re
from typing import Any

import pytest
from msgspec.structs import replace

from controller.api.changes.services import (
    Rollback,
    Update,
    create_service,
    rollback_service,
    update_service,
)
from controller.api.changes.tasks import restart_task
from controller.api.queries.progress import service_progress
from controller.api.queries.why_update import waits_for
from controller.brain.decide import decide
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import BEGINNING, Writes
from pyswarm_core.errors import Conflict, InvalidArgument
from pyswarm_core.ids import NodeId
from pyswarm_core.kinds import NETWORK
from pyswarm_core.objects import Service, UpdateStatus, VersionRange
from pyswarm_core.specs import (
    FailureAction,
    ReplicatedMode,
    RestartCondition,
    RestartPolicy,
    ServiceSpec,
    UpdateConfig,
    UpdateOrder,
)
from pyswarm_core.states import Availability, TaskState, UpdateState
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld, changed
from tests.fixtures.build import nodes

BACK = UpdateConfig(failure_action=FailureAction.ROLLBACK)


def _world(replicas: int | None = 3, update: UpdateConfig = BACK, **rollback: Any) -> BrainWorld:
    """Service web runs its first version."""
    world = BrainWorld(build.state(nodes=nodes(3), networks=[build.network("net")]))
    spec = build.configured(
        build.service("web", replicas=replicas), update, UpdateConfig(**rollback)
    ).spec
    writes, _ = create_service(world.state, spec, (), world.now, world.ids)
    world.state.apply(writes)
    world.converge()
    return world


def _web(world: BrainWorld) -> Service:
    (web,) = world.state.services.values()
    return web


def _update(world: BrainWorld, image: str = "", **fields: Any) -> None:
    web = _web(world)
    spec = replace(web.spec, **fields)
    if image:
        spec = replace(spec, task_template=build.template(image))
    update = Update(web.id, web.version, spec)
    world.state.apply(update_service(world.state, update, (), world.now, world.ids)[0])


def _play(world: BrainWorld, *bad: int, seconds: int = 60) -> None:
    """Tasks of these spec versions fail while they start."""
    for _ in range(seconds):
        world.settle()
        for found in list(world.state.tasks.values()):
            if found.spec_version in bad and found.state is TaskState.STARTING:
                world.report(found.node_id, found, TaskState.FAILED)
            else:
                world.advance(world.state.tasks[found.id])
        world.now = Instant(world.now + SECOND)


def _status(world: BrainWorld) -> UpdateStatus:
    status = _web(world).update_status
    assert status is not None
    return status


def _state(world: BrainWorld) -> UpdateState:
    return _status(world).state


def _spec(world: BrainWorld) -> ServiceSpec:
    return _web(world).spec


@pytest.mark.parametrize("replicas", [3, None], ids=["replicated", "global"])
@pytest.mark.parametrize("order", UpdateOrder)
def test_a_failed_update_returns_to_the_spec_before_it(
    replicas: int | None, order: UpdateOrder
) -> None:
    world = _world(replicas, replace(BACK, order=order))
    before = {task.id for task in world.desired(_web(world).id)}
    spec = _spec(world)
    _update(world, "broken")
    _play(world, 2)
    web = _web(world)
    assert (web.spec, web.spec_version, web.version.index) == (spec, 3, 3)
    assert web.same_template == (VersionRange(1, 1),)
    assert _state(world) is UpdateState.ROLLBACK_COMPLETED
    kept = [task for task in world.desired(web.id) if task.id in before]
    assert len(kept) == (3 if order is UpdateOrder.START_FIRST else 2), "those of version 1 stay"
    assert all(task.state is TaskState.RUNNING for task in world.desired(web.id))
    assert len(world.desired(web.id)) == 3


def test_messages_are_those_of_swarm() -> None:
    world = _world()
    _update(world, "broken")
    seen: dict[str, None] = {}
    for _ in range(40):
        _play(world, 2, seconds=1)
        status = _web(world).update_status
        assert status is not None
        seen[f"{status.state}: {status.message}".rstrip("0123456789")] = None
    assert list(seen) == [
        "updating: update in progress",
        "rollback_started: update rolled back due to failure or early termination of task ",
        "rollback_completed: rollback completed",
    ]


def test_a_rollback_that_fails_is_paused_and_never_rolled_back() -> None:
    world = _world(update=replace(BACK, parallelism=0))
    _update(world, "broken")
    _play(world, 2, 3)
    assert _state(world) is UpdateState.ROLLBACK_PAUSED
    assert _web(world).spec_version == 3
    _update(world)
    _play(world)
    assert _state(world) is UpdateState.ROLLBACK_COMPLETED


def test_after_an_unfinished_update_it_returns_to_the_last_version_that_was_completed() -> None:
    world = _world(update=UpdateConfig())
    _update(world, "broken")
    _play(world, 2)
    assert _state(world) is UpdateState.PAUSED
    _update(world, "broken2", update_config=BACK)
    _play(world, 2, 3)
    assert _state(world) is UpdateState.ROLLBACK_COMPLETED
    assert _spec(world).task_template.container_spec.image == "busybox"


def test_a_number_of_replicas_set_during_the_update_stays() -> None:
    world = _world()
    _update(world, "broken")
    _play(world, seconds=1)
    _update(world, mode=ReplicatedMode(replicas=5))
    _play(world, 2, 3)
    assert _spec(world).task_template.container_spec.image == "busybox"
    assert len(world.desired(_web(world).id)) == 5


def test_a_number_of_replicas_set_during_an_update_that_another_replaced_stays() -> None:
    world = _world()
    _update(world, "broken")
    _play(world, seconds=1)
    _update(world, mode=ReplicatedMode(replicas=5))
    _update(world, "broken2")
    _play(world, 2, 3, 4)
    assert _state(world) is UpdateState.ROLLBACK_COMPLETED
    assert _spec(world).task_template.container_spec.image == "busybox"
    assert _spec(world).mode == ReplicatedMode(replicas=5)


def test_a_number_of_replicas_that_came_with_the_failed_update_goes_with_it() -> None:
    world = _world()
    _update(world, "broken", mode=ReplicatedMode(replicas=5))
    _play(world, 2)
    assert _state(world) is UpdateState.ROLLBACK_COMPLETED
    assert _spec(world).mode == ReplicatedMode(replicas=3)


def test_a_number_of_replicas_that_a_rollback_took_back_does_not_return() -> None:
    world = _world()
    _update(world, mode=ReplicatedMode(replicas=5))
    _update(world, "other")
    _play(world)
    _roll_back(world, to=1)
    _update(world, "broken")
    _play(world, 5)
    assert _state(world) is UpdateState.ROLLBACK_COMPLETED
    assert _spec(world).task_template.container_spec.image == "busybox"
    assert _spec(world).mode == ReplicatedMode(replicas=3)


def test_a_rollback_to_a_network_that_was_removed_is_paused_with_the_reason() -> None:
    world = _world()
    _update(world, task_template=build.template(networks=("net",)))
    _play(world)
    _update(world, "broken")
    _play(world, seconds=1)
    world.state.apply(Writes(removed=(NETWORK.object_name(world.state.networks["net"].id),)))  # type: ignore[index]
    _play(world, 3)
    status = _web(world).update_status
    assert status is not None
    assert status.state is UpdateState.PAUSED
    assert "it cannot be rolled back: network net of spec version 2 was removed" in status.message


def _roll_back(world: BrainWorld, to: int = 0) -> Service:
    rollback = Rollback("web", None, to)
    writes, service = rollback_service(world.state, rollback, (), world.now, world.ids)
    world.state.apply(writes)
    return service


def test_a_manual_rollback_returns_to_the_previous_spec_and_the_next_one_back() -> None:
    world = _world()
    _update(world, "new")
    _play(world)
    assert _roll_back(world).spec.task_template.container_spec.image == "busybox"
    assert _web(world).update_status.message == "manually requested rollback"  # type: ignore[union-attr]
    _play(world)
    assert _state(world) is UpdateState.ROLLBACK_COMPLETED
    assert _roll_back(world).spec.task_template.container_spec.image == "new"


def test_a_manual_rollback_of_a_paused_update_returns_to_the_last_completed_version() -> None:
    world = _world(update=UpdateConfig())
    for image in ("broken", "broken2"):
        _update(world, image)
        _play(world, 2, 3, seconds=20)
    assert _roll_back(world).spec.task_template.container_spec.image == "busybox"


def test_a_rollback_by_hand_does_not_undo_an_automatic_one() -> None:
    world = _world()
    _update(world, "broken")
    _play(world, 2, seconds=1)
    while _state(world) is UpdateState.UPDATING:
        _play(world, 2, seconds=1)
    refused = (
        'service "web" was already rolled back to version 1: name a version with --to,'
        " see `pyswarm service history web`"
    )
    for state in (UpdateState.ROLLBACK_STARTED, UpdateState.ROLLBACK_COMPLETED):
        assert _state(world) is state
        with pytest.raises(Conflict, match=re.escape(refused)):
            _roll_back(world)
        _play(world)
    _update(world, stopped=True)
    with pytest.raises(Conflict, match=re.escape(refused)):
        _roll_back(world)
    assert _roll_back(world, 2).spec.task_template.container_spec.image == "broken"


def test_a_rollback_by_hand_does_not_undo_an_automatic_one_that_is_paused() -> None:
    world = _world(update=replace(BACK, parallelism=0))
    _update(world, "broken")
    _play(world, 2, 3)
    assert _state(world) is UpdateState.ROLLBACK_PAUSED
    with pytest.raises(Conflict, match="was already rolled back to version 1"):
        _roll_back(world)
    _update(world)
    assert _state(world) is UpdateState.ROLLBACK_STARTED
    with pytest.raises(Conflict, match="was already rolled back to version 1"):
        _roll_back(world)


def test_a_rollback_by_hand_does_not_undo_an_automatic_one_that_a_paused_node_held_up() -> None:
    """A global service: the paused node keeps the task of the failed version for a while."""
    world = _world(None, replace(BACK, parallelism=0, monitor=60 * SECOND))
    _update(world, "broken")
    _play(world, seconds=7)
    node = world.state.nodes[NodeId("n2")]
    world.put_node(changed(node, availability=Availability.PAUSE))
    (first,) = (t for t in world.desired(_web(world).id) if t.node_id == "n1")
    world.report("n1", first, TaskState.FAILED)
    _play(world)
    assert _state(world) is UpdateState.ROLLBACK_COMPLETED
    world.put_node(node)
    world.settle()
    for state in (UpdateState.UPDATING, UpdateState.COMPLETED):
        assert _state(world) is state
        with pytest.raises(Conflict, match=r"was already rolled back: name a version with --to"):
            _roll_back(world)
        _play(world, seconds=90)
    assert {task.spec_version for task in world.desired(_web(world).id)} == {3}


def test_a_change_after_an_automatic_rollback_can_be_rolled_back() -> None:
    world = _world()
    _update(world, "broken")
    _play(world, 2)
    _update(world, mode=ReplicatedMode(replicas=4))
    rolled = _roll_back(world)
    assert rolled.spec.task_template.container_spec.image == "busybox"
    assert rolled.spec.mode == ReplicatedMode(replicas=3)


@pytest.mark.parametrize("to", [0, 1])
def test_a_rollback_keeps_whether_the_service_is_stopped(to: int) -> None:
    world = _world()
    _update(world, "new")
    _play(world)
    for stopped in (True, False):
        _update(world, stopped=stopped)
        world.converge()
    rolled = _roll_back(world, to)
    assert (rolled.spec.task_template.container_spec.image, rolled.spec.stopped) == (
        "busybox",
        False,
    )
    _play(world)
    assert len(world.desired(_web(world).id)) == 3
    _update(world, stopped=True)
    assert _roll_back(world, 2).spec.stopped


def test_stops_and_starts_are_no_specs_to_roll_back_to() -> None:
    world = _world()
    for stopped in (True, False):
        _update(world, stopped=stopped)
    with pytest.raises(Conflict, match='service "web" has no previous spec to roll back to'):
        _roll_back(world)


@pytest.mark.parametrize("paused", [False, True])
def test_a_number_of_replicas_set_during_an_update_survives_its_rollback_by_hand(
    paused: bool,
) -> None:
    world = _world(update=UpdateConfig())
    _update(world, "broken")
    _play(world, 2, seconds=20 if paused else 1)
    _update(world, mode=ReplicatedMode(replicas=6))
    assert _state(world) is (UpdateState.PAUSED if paused else UpdateState.UPDATING)
    rolled = _roll_back(world)
    assert rolled.spec.task_template.container_spec.image == "busybox"
    assert rolled.spec.mode == ReplicatedMode(replicas=6)
    assert _roll_back(world, 1).spec.mode == ReplicatedMode(replicas=3)


def test_an_update_that_an_older_controller_began_is_rolled_back_to_the_previous_spec() -> None:
    world = _world(update=UpdateConfig())
    _update(world, "broken")
    _play(world, 2)
    web = _web(world)
    assert web.update_status is not None
    unknown = replace(web.update_status, from_version=0)
    world.state.apply(Writes(objects=(replace(web, update_status=unknown),)))
    assert _roll_back(world).spec.task_template.container_spec.image == "busybox"


def test_a_rollback_to_any_kept_version() -> None:
    world = _world()
    for image in ("b", "c", "d"):
        _update(world, image)
        _play(world, seconds=30)
    assert _roll_back(world, 2).spec.task_template.container_spec.image == "b"
    with pytest.raises(
        InvalidArgument,
        match="--to: version 9 is not valid: expected an earlier version that is kept: 1, 2, 3, 4",
    ):
        _roll_back(world, 9)


def test_a_rollback_without_an_earlier_spec_is_refused() -> None:
    with pytest.raises(Conflict, match='service "web" has no previous spec to roll back to'):
        _roll_back(_world())


def test_going_back_by_hand_keeps_the_tasks_of_the_earlier_template() -> None:
    world = _world(update=UpdateConfig())
    _update(world, "broken")
    _play(world, 2)
    _update(world, "busybox")
    _play(world)
    assert [t.spec_version for t in world.desired(_web(world).id)] == [3, 1, 1]
    assert _state(world) is UpdateState.COMPLETED


def test_a_rollback_in_many_decisions_keeps_tasks_beside_which_a_new_one_failed() -> None:
    once = build.template("broken", condition="none")
    world = _world(60, UpdateConfig())
    kept = {task.id for task in world.desired(_web(world).id)}
    start_first = UpdateConfig(0, max_failure_ratio=0.9, order=UpdateOrder.START_FIRST)
    _update(world, task_template=once, update_config=start_first)
    _play(world, 2, seconds=20)
    assert _state(world) is UpdateState.PAUSED
    web = _roll_back(world)
    again = {web.id: BEGINNING}
    for _ in range(4):
        dirty = build.dirty(web.id)
        dirty.resumed.update(again)
        decision = decide(world.state, dirty, world.now, world.ids, cost=50)
        world.state.apply(decision.writes)
        again = decision.again
    assert {task.id for task in world.desired(web.id)} == kept


@pytest.mark.parametrize("replicas", [3, None], ids=["replicated", "global"])
def test_a_stopped_service_has_no_task_and_keeps_its_number_of_replicas(
    replicas: int | None,
) -> None:
    world = _world(replicas)
    _update(world, stopped=True)
    world.converge()
    web = _web(world)
    assert not world.desired(web.id)
    assert len(world.state.tasks_of_service(web.id).slots) == 3, "the history stays"
    _update(world, stopped=False)
    world.converge()
    assert len(world.desired(web.id)) == 3
    assert {t.spec_version for t in world.desired(web.id)} == {3}


@pytest.mark.parametrize("replicas", [3, None], ids=["replicated", "global"])
def test_an_update_waits_while_its_service_is_stopped_and_then_goes_on(
    replicas: int | None,
) -> None:
    world = _world(replicas)
    _update(world, "broken")
    world.settle()
    _update(world, stopped=True)
    _play(world, 2)
    web = _web(world)
    assert _state(world) is UpdateState.UPDATING
    waits = "when the service is started: pyswarm service start web"
    assert waits_for(world.state, web, world.now) == waits
    progress = service_progress(world.state, web.id, world.now)
    assert (progress.converged, progress.failure) == (True, "")
    _update(world, stopped=False)
    _play(world, 2, 3, 4)
    assert _state(world) is UpdateState.ROLLBACK_COMPLETED
    web = _web(world)
    assert web.spec.task_template.container_spec.image == "busybox"
    assert [task.state for task in world.desired(web.id)] == 3 * [TaskState.RUNNING]


def test_an_update_that_replaces_one_of_a_stopped_service_returns_to_the_same_version() -> None:
    world = _world()
    _update(world, "broken")
    world.settle()
    _update(world, stopped=True)
    world.converge()
    _update(world, "broken2")
    _update(world, stopped=False)
    _play(world, 2, 3, 4, 5)
    assert _state(world) is UpdateState.ROLLBACK_COMPLETED
    assert _spec(world).task_template.container_spec.image == "busybox"


def test_a_paused_update_is_not_resumed_by_scaling_or_stopping() -> None:
    world = _world(update=UpdateConfig())
    _update(world, "broken")
    _play(world, 2)
    for fields in ({"mode": ReplicatedMode(replicas=4)}, {"stopped": True}, {"stopped": False}):
        _update(world, **fields)
        assert _state(world) is UpdateState.PAUSED
    _play(world, 2)
    images = {t.slot: t.spec_version for t in world.desired(_web(world).id)}
    assert (images[2], images[3]) == (1, 1), "they keep their template"


@pytest.mark.parametrize("change", [{}, {"labels": {"a": "b"}}, {"update_config": UpdateConfig(1)}])
def test_a_paused_update_is_resumed_by_any_other_update(change: dict[str, Any]) -> None:
    world = _world(update=UpdateConfig(parallelism=2))
    _update(world, "broken")
    _play(world, 2)
    started = world.now
    _update(world, **change)
    status = _web(world).update_status
    assert status is not None
    assert (status.state, status.started_at) == (UpdateState.UPDATING, started)
    _play(world)
    assert _state(world) is UpdateState.COMPLETED


def test_a_paused_update_that_is_resumed_counts_the_slots_that_ended_too() -> None:
    world = _world(6, UpdateConfig(max_failure_ratio=0.25))
    _update(world, task_template=build.template(condition="on-failure"))
    for task in world.desired(_web(world).id):
        if task.slot > 3:
            world.report(task.node_id, task, TaskState.COMPLETE)
    world.converge()
    _update(world, task_template=build.template("broken", condition="on-failure"))
    while (status := _status(world)).state is UpdateState.UPDATING:
        _play(world, 3, seconds=1)
    assert (status.state, status.slots, status.failures) == (UpdateState.PAUSED, 6, 2)
    _update(world)
    assert _status(world).slots == 4, "three tasks that run, and one that ended"


def test_a_service_whose_replicas_are_none_has_no_update_to_wait_for() -> None:
    world = _world(0)
    _update(world, "new")
    assert _web(world).update_status is None
    _roll_back(world)
    world.settle()
    assert _state(world) is UpdateState.ROLLBACK_COMPLETED


@pytest.mark.parametrize("order", UpdateOrder)
def test_a_task_stopped_in_a_rollback_is_replaced_though_the_one_before_it_is_not_restarted(
    order: UpdateOrder,
) -> None:
    config = UpdateConfig(order=UpdateOrder.START_FIRST)
    world = _world(1, config, order=order)
    never = RestartPolicy(condition=RestartCondition.NONE)
    for image in ("busybox", "new"):
        _update(world, task_template=replace(build.template(image), restart_policy=never))
    world.settle()
    world.now = Instant(world.now + SECOND)
    old, new = world.state.tasks.values()
    world.report(old.node_id, old, TaskState.FAILED)
    world.settle()
    world.report(new.node_id, new, TaskState.RUNNING)
    world.now = Instant(world.now + SECOND)
    _roll_back(world)
    world.state.apply(restart_task(world.state, new.id)[0])
    _play(world)
    assert [t.spec_version for t in world.desired(_web(world).id)] == [_web(world).spec_version]
    assert _state(world) is UpdateState.ROLLBACK_COMPLETED
