"""Updates to a version that runs, is healthy, and never serves."""

import pytest
from msgspec.structs import replace

from controller.api.queries.why import why
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.ids import ServiceId
from pyswarm_core.objects import Task, TaskDetail, UpdateStatus
from pyswarm_core.specs import FailureAction, UpdateConfig, UpdateOrder
from pyswarm_core.states import TaskState, UpdateState
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld
from tests.fixtures.build import NOW, dirty, nodes, service, task

RUNNING = TaskState.RUNNING
NOT_READY = TaskDetail(message="not ready: connection refused")
TEN_MINUTES = 600 * SECOND


def _world(*tasks: Task, **config: object) -> BrainWorld:
    old = service("web", replicas=3)
    new = service("web", replicas=3, spec=build.template("new"), version=2, template_version=2)
    new = build.updating(new, old.spec, UpdateConfig(**config), slots=3)  # type: ignore[arg-type]
    return BrainWorld(build.state(nodes=nodes(3), services=[new], tasks=tasks))


def _running(slot: int, version: int = 1, *, at: int = NOW) -> Task:
    return task(f"web.{slot}", node=f"n{slot}", version=version, at=at)


def _unready(slot: int) -> Task:
    return replace(_running(slot, 2), id=f"new{slot}", detail=NOT_READY)


def _status(world: BrainWorld) -> UpdateStatus:
    status = world.state.services[ServiceId("web")].update_status
    assert status is not None
    return status


def test_a_slot_that_runs_and_never_serves_for_ten_minutes_has_failed() -> None:
    world = _world(_unready(1), _running(2), _running(3))
    decision = world.decide(dirty("web"))
    assert not decision.writes
    assert decision.wakes == {"web": NOW + TEN_MINUTES}
    world.now = Instant(NOW + TEN_MINUTES - 1)
    assert not world.decide(dirty("web")).writes
    world.now = Instant(NOW + TEN_MINUTES)
    world.settle(dirty("web"))
    status = _status(world)
    assert (status.state, status.failures) == (UpdateState.PAUSED, 1)
    assert status.message == (
        "update paused due to failure of task new1: it runs and never served"
        " (not ready: connection refused)"
    )
    assert [(t.slot, t.spec_version, t.failed_update) for t in world.desired("web")] == [
        (1, 2, True),
        (2, 1, False),
        (3, 1, False),
    ]
    assert "web.1: it has run for 10m0s and did not serve: not ready: connection refused" in why(
        world.state, "web", world.now
    )


@pytest.mark.parametrize("order", UpdateOrder)
def test_it_is_rolled_back_if_the_settings_say_so(order: UpdateOrder) -> None:
    world = _world(*map(_running, (1, 2, 3)), order=order, failure_action=FailureAction.ROLLBACK)
    for _ in range(130):
        world.settle()
        for found in list(world.state.tasks.values()):
            if found.spec_version == 2 and found.state is TaskState.STARTING:
                world.report(found.node_id, found, RUNNING, NOT_READY)
            else:
                world.advance(found)
        world.now = Instant(world.now + 6 * SECOND)
        assert sum(t.state is RUNNING for t in world.desired("web")) >= 2
    assert _status(world).state is UpdateState.ROLLBACK_COMPLETED
    assert {t.spec_version for t in world.desired("web")} <= {1, 3}


def test_an_update_that_tolerates_it_goes_on_and_counts_the_slot_once() -> None:
    world = _world(_unready(1), _running(2), _running(3), failure_action=FailureAction.CONTINUE)
    world.now = Instant(NOW + TEN_MINUTES)
    world.settle(dirty("web"))
    stopping = [t.slot for t in world.state.tasks.values() if t.desired_state > RUNNING]
    assert stopping == [2]
    world.converge()
    assert (_status(world).state, _status(world).failures) == (UpdateState.COMPLETED, 1)


def test_a_task_that_fails_its_readiness_check_in_a_long_update_has_not_failed() -> None:
    """Another slot was updated since."""
    late = Instant(NOW + TEN_MINUTES)
    served = replace(_unready(1), detail=NOT_READY)
    world = _world(served, _running(2, 2, at=late), _running(3))
    world.now = Instant(late + 60 * SECOND)
    decision = world.decide(dirty("web"))
    assert not decision.writes
    assert decision.wakes == {"web": late + 5 * SECOND + TEN_MINUTES}


def test_a_resumed_update_gives_up_a_task_that_never_served_before_it_was_paused() -> None:
    """It counts as no failure of the resumed update."""
    world = _world(_unready(1), _running(2), _running(3))
    (web,) = world.state.services.values()
    assert web.update_status is not None
    resumed = Instant(NOW + SECOND)
    status = replace(web.update_status, started_at=resumed)
    world.state.apply(Writes(objects=(replace(web, update_status=status),)))
    assert world.decide(dirty("web")).wakes == {"web": resumed + TEN_MINUTES}
    world.now = Instant(resumed + TEN_MINUTES)
    world.settle(dirty("web"))
    stopping = [t.slot for t in world.state.tasks.values() if t.desired_state > RUNNING]
    assert stopping == [2]
    world.converge()
    assert (_status(world).state, _status(world).failures) == (UpdateState.COMPLETED, 0)
