"""Rollbacks: what a failed update returns to, which tasks stay, and what stops a rollback."""

import re

import pytest
from msgspec.structs import replace

from controller.brain.decide import decide
from pyswarm_core.clock import SECOND
from pyswarm_core.decision import BEGINNING, Writes
from pyswarm_core.errors import Conflict, InvalidArgument
from pyswarm_core.ids import NodeId
from pyswarm_core.kinds import NETWORK
from pyswarm_core.objects import VersionRange
from pyswarm_core.specs import (
    ReplicatedMode,
    UpdateConfig,
    UpdateOrder,
)
from pyswarm_core.states import Availability, TaskState, UpdateState
from tests.fixtures import build
from tests.fixtures.brain_world import changed
from tests.unit.controller.brain.orchestrator.rollback_world import (
    BACK,
    play,
    roll_back,
    running_web,
    spec_of,
    state_of,
    the_web,
    update_web,
)


@pytest.mark.parametrize("replicas", [3, None], ids=["replicated", "global"])
@pytest.mark.parametrize("order", UpdateOrder)
def test_a_failed_update_returns_to_the_spec_before_it(
    replicas: int | None, order: UpdateOrder
) -> None:
    world = running_web(replicas, replace(BACK, order=order))
    before = {task.id for task in world.desired(the_web(world).id)}
    spec = spec_of(world)
    update_web(world, "broken")
    play(world, 2)
    web = the_web(world)
    assert (web.spec, web.spec_version, web.version.index) == (spec, 3, 3)
    assert web.same_template == (VersionRange(1, 1),)
    assert state_of(world) is UpdateState.ROLLBACK_COMPLETED
    kept = [task for task in world.desired(web.id) if task.id in before]
    assert len(kept) == (3 if order is UpdateOrder.START_FIRST else 2), "those of version 1 stay"
    assert all(task.state is TaskState.RUNNING for task in world.desired(web.id))
    assert len(world.desired(web.id)) == 3


def test_messages_are_those_of_swarm() -> None:
    world = running_web()
    update_web(world, "broken")
    seen: dict[str, None] = {}
    for _ in range(40):
        play(world, 2, seconds=1)
        status = the_web(world).update_status
        assert status is not None
        seen[f"{status.state}: {status.message}".rstrip("0123456789")] = None
    assert list(seen) == [
        "updating: update in progress",
        "rollback_started: update rolled back due to failure or early termination of task ",
        "rollback_completed: rollback completed",
    ]


def test_a_rollback_that_fails_is_paused_and_never_rolled_back() -> None:
    world = running_web(update=replace(BACK, parallelism=0))
    update_web(world, "broken")
    play(world, 2, 3)
    assert state_of(world) is UpdateState.ROLLBACK_PAUSED
    assert the_web(world).spec_version == 3
    update_web(world)
    play(world)
    assert state_of(world) is UpdateState.ROLLBACK_COMPLETED


def test_after_an_unfinished_update_it_returns_to_the_last_version_that_was_completed() -> None:
    world = running_web(update=UpdateConfig())
    update_web(world, "broken")
    play(world, 2)
    assert state_of(world) is UpdateState.PAUSED
    update_web(world, "broken2", update_config=BACK)
    play(world, 2, 3)
    assert state_of(world) is UpdateState.ROLLBACK_COMPLETED
    assert spec_of(world).task_template.container_spec.image == "busybox"


def test_a_number_of_replicas_set_during_the_update_stays() -> None:
    world = running_web()
    update_web(world, "broken")
    play(world, seconds=1)
    update_web(world, mode=ReplicatedMode(replicas=5))
    play(world, 2, 3)
    assert spec_of(world).task_template.container_spec.image == "busybox"
    assert len(world.desired(the_web(world).id)) == 5


def test_a_number_of_replicas_set_during_an_update_that_another_replaced_stays() -> None:
    world = running_web()
    update_web(world, "broken")
    play(world, seconds=1)
    update_web(world, mode=ReplicatedMode(replicas=5))
    update_web(world, "broken2")
    play(world, 2, 3, 4)
    assert state_of(world) is UpdateState.ROLLBACK_COMPLETED
    assert spec_of(world).task_template.container_spec.image == "busybox"
    assert spec_of(world).mode == ReplicatedMode(replicas=5)


def test_a_number_of_replicas_that_came_with_the_failed_update_goes_with_it() -> None:
    world = running_web()
    update_web(world, "broken", mode=ReplicatedMode(replicas=5))
    play(world, 2)
    assert state_of(world) is UpdateState.ROLLBACK_COMPLETED
    assert spec_of(world).mode == ReplicatedMode(replicas=3)


def test_a_number_of_replicas_that_a_rollback_took_back_does_not_return() -> None:
    world = running_web()
    update_web(world, mode=ReplicatedMode(replicas=5))
    update_web(world, "other")
    play(world)
    roll_back(world, to=1)
    update_web(world, "broken")
    play(world, 5)
    assert state_of(world) is UpdateState.ROLLBACK_COMPLETED
    assert spec_of(world).task_template.container_spec.image == "busybox"
    assert spec_of(world).mode == ReplicatedMode(replicas=3)


def test_a_rollback_to_a_network_that_was_removed_is_paused_with_the_reason() -> None:
    world = running_web()
    update_web(world, task_template=build.template(networks=("net",)))
    play(world)
    update_web(world, "broken")
    play(world, seconds=1)
    world.state.apply(Writes(removed=(NETWORK.object_name(world.state.networks["net"].id),)))  # type: ignore[index]
    play(world, 3)
    status = the_web(world).update_status
    assert status is not None
    assert status.state is UpdateState.PAUSED
    assert "it cannot be rolled back: network net of spec version 2 was removed" in status.message


def test_a_manual_rollback_returns_to_the_previous_spec_and_the_next_one_back() -> None:
    world = running_web()
    update_web(world, "new")
    play(world)
    assert roll_back(world).spec.task_template.container_spec.image == "busybox"
    assert the_web(world).update_status.message == "manually requested rollback"  # type: ignore[union-attr]
    play(world)
    assert state_of(world) is UpdateState.ROLLBACK_COMPLETED
    assert roll_back(world).spec.task_template.container_spec.image == "new"


def test_a_manual_rollback_of_a_paused_update_returns_to_the_last_completed_version() -> None:
    world = running_web(update=UpdateConfig())
    for image in ("broken", "broken2"):
        update_web(world, image)
        play(world, 2, 3, seconds=20)
    assert roll_back(world).spec.task_template.container_spec.image == "busybox"


def test_a_rollback_by_hand_does_not_undo_an_automatic_one() -> None:
    world = running_web()
    update_web(world, "broken")
    play(world, 2, seconds=1)
    while state_of(world) is UpdateState.UPDATING:
        play(world, 2, seconds=1)
    refused = (
        'service "web" was already rolled back to version 1: name a version with --to,'
        " see `pyswarm service history web`"
    )
    for state in (UpdateState.ROLLBACK_STARTED, UpdateState.ROLLBACK_COMPLETED):
        assert state_of(world) is state
        with pytest.raises(Conflict, match=re.escape(refused)):
            roll_back(world)
        play(world)
    update_web(world, stopped=True)
    with pytest.raises(Conflict, match=re.escape(refused)):
        roll_back(world)
    assert roll_back(world, 2).spec.task_template.container_spec.image == "broken"


def test_a_rollback_by_hand_does_not_undo_an_automatic_one_that_is_paused() -> None:
    world = running_web(update=replace(BACK, parallelism=0))
    update_web(world, "broken")
    play(world, 2, 3)
    assert state_of(world) is UpdateState.ROLLBACK_PAUSED
    with pytest.raises(Conflict, match="was already rolled back to version 1"):
        roll_back(world)
    update_web(world)
    assert state_of(world) is UpdateState.ROLLBACK_STARTED
    with pytest.raises(Conflict, match="was already rolled back to version 1"):
        roll_back(world)


def test_a_rollback_by_hand_does_not_undo_an_automatic_one_that_a_paused_node_held_up() -> None:
    """A global service: the paused node keeps the task of the failed version for a while."""
    world = running_web(None, replace(BACK, parallelism=0, monitor=60 * SECOND))
    update_web(world, "broken")
    play(world, seconds=7)
    node = world.state.nodes[NodeId("n2")]
    world.put_node(changed(node, availability=Availability.PAUSE))
    (first,) = (t for t in world.desired(the_web(world).id) if t.node_id == "n1")
    world.report("n1", first, TaskState.FAILED)
    play(world)
    assert state_of(world) is UpdateState.ROLLBACK_COMPLETED
    world.put_node(node)
    world.settle()
    for state in (UpdateState.UPDATING, UpdateState.COMPLETED):
        assert state_of(world) is state
        with pytest.raises(Conflict, match=r"was already rolled back: name a version with --to"):
            roll_back(world)
        play(world, seconds=90)
    assert {task.spec_version for task in world.desired(the_web(world).id)} == {3}


def test_a_change_after_an_automatic_rollback_can_be_rolled_back() -> None:
    world = running_web()
    update_web(world, "broken")
    play(world, 2)
    update_web(world, mode=ReplicatedMode(replicas=4))
    rolled = roll_back(world)
    assert rolled.spec.task_template.container_spec.image == "busybox"
    assert rolled.spec.mode == ReplicatedMode(replicas=3)


@pytest.mark.parametrize("to", [0, 1])
def test_a_rollback_keeps_whether_the_service_is_stopped(to: int) -> None:
    world = running_web()
    update_web(world, "new")
    play(world)
    for stopped in (True, False):
        update_web(world, stopped=stopped)
        world.converge()
    rolled = roll_back(world, to)
    assert (rolled.spec.task_template.container_spec.image, rolled.spec.stopped) == (
        "busybox",
        False,
    )
    play(world)
    assert len(world.desired(the_web(world).id)) == 3
    update_web(world, stopped=True)
    assert roll_back(world, 2).spec.stopped


def test_stops_and_starts_are_no_specs_to_roll_back_to() -> None:
    world = running_web()
    for stopped in (True, False):
        update_web(world, stopped=stopped)
    with pytest.raises(Conflict, match='service "web" has no previous spec to roll back to'):
        roll_back(world)


@pytest.mark.parametrize("paused", [False, True])
def test_a_number_of_replicas_set_during_an_update_survives_its_rollback_by_hand(
    paused: bool,
) -> None:
    world = running_web(update=UpdateConfig())
    update_web(world, "broken")
    play(world, 2, seconds=20 if paused else 1)
    update_web(world, mode=ReplicatedMode(replicas=6))
    assert state_of(world) is (UpdateState.PAUSED if paused else UpdateState.UPDATING)
    rolled = roll_back(world)
    assert rolled.spec.task_template.container_spec.image == "busybox"
    assert rolled.spec.mode == ReplicatedMode(replicas=6)
    assert roll_back(world, 1).spec.mode == ReplicatedMode(replicas=3)


def test_an_update_that_an_older_controller_began_is_rolled_back_to_the_previous_spec() -> None:
    world = running_web(update=UpdateConfig())
    update_web(world, "broken")
    play(world, 2)
    web = the_web(world)
    assert web.update_status is not None
    unknown = replace(web.update_status, from_version=0)
    world.state.apply(Writes(objects=(replace(web, update_status=unknown),)))
    assert roll_back(world).spec.task_template.container_spec.image == "busybox"


def test_a_rollback_to_any_kept_version() -> None:
    world = running_web()
    for image in ("b", "c", "d"):
        update_web(world, image)
        play(world, seconds=30)
    assert roll_back(world, 2).spec.task_template.container_spec.image == "b"
    with pytest.raises(
        InvalidArgument,
        match="--to: version 9 is not valid: expected an earlier version that is kept: 1, 2, 3, 4",
    ):
        roll_back(world, 9)


def test_a_rollback_without_an_earlier_spec_is_refused() -> None:
    with pytest.raises(Conflict, match='service "web" has no previous spec to roll back to'):
        roll_back(running_web())


def test_going_back_by_hand_keeps_the_tasks_of_the_earlier_template() -> None:
    world = running_web(update=UpdateConfig())
    update_web(world, "broken")
    play(world, 2)
    update_web(world, "busybox")
    play(world)
    assert [t.spec_version for t in world.desired(the_web(world).id)] == [3, 1, 1]
    assert state_of(world) is UpdateState.COMPLETED


def test_a_rollback_in_many_decisions_keeps_tasks_beside_which_a_new_one_failed() -> None:
    once = build.template("broken", condition="none")
    world = running_web(60, UpdateConfig())
    kept = {task.id for task in world.desired(the_web(world).id)}
    start_first = UpdateConfig(0, max_failure_ratio=0.9, order=UpdateOrder.START_FIRST)
    update_web(world, task_template=once, update_config=start_first)
    play(world, 2, seconds=20)
    assert state_of(world) is UpdateState.PAUSED
    web = roll_back(world)
    again = {web.id: BEGINNING}
    for _ in range(4):
        dirty = build.dirty(web.id)
        dirty.resumed.update(again)
        decision = decide(world.state, dirty, world.now, world.ids, cost=50)
        world.state.apply(decision.writes)
        again = decision.again
    assert {task.id for task in world.desired(web.id)} == kept
