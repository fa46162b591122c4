"""A decision may write the service it is about: what it records of it."""

from collections.abc import Iterable
from typing import Any

import pytest
from msgspec.structs import replace

from controller.brain.decide import decide
from controller.brain.orchestrator import replicated_service
from controller.brain.orchestrator.plan import Plan
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.ids import ServiceId
from pyswarm_core.kinds import SERVICE
from pyswarm_core.limits import WRITE_COST
from pyswarm_core.state import State
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld
from tests.fixtures.build import NOW, Numbered, dirty

WEB = ServiceId("web")
LATER = Instant(NOW + SECOND)


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicated services are decided as ever, and when that was done is recorded of "web"."""
    reconcile = replicated_service.reconcile

    def recorded(plan: Plan, state: State, looked_at: Iterable[int], now: Instant) -> None:
        reconcile(plan, state, looked_at, now)
        if plan.service.id == WEB and plan.service.updated_at != LATER:
            plan.record(replace(plan.service, updated_at=LATER))

    monkeypatch.setattr(replicated_service, "reconcile", recorded)


def _world() -> BrainWorld:
    services = [build.service("api"), build.service("web", replicas=2)]
    return BrainWorld(build.state(services=services, nodes=build.nodes(2)))


@pytest.mark.usefixtures("recording")
def test_what_is_recorded_is_written_with_the_tasks_and_then_is_quiet() -> None:
    world = _world()
    decision = world.decide(dirty("api", "web"))
    assert [(one.id, one.updated_at) for one in decision.writes.of(SERVICE)] == [(WEB, LATER)]
    assert len(decision.writes.tasks) == 3
    world.state.apply(decision.writes)
    assert world.state.services[WEB].updated_at == LATER
    world.converge()


@pytest.mark.usefixtures("recording")
def test_a_record_costs_a_write() -> None:
    world = _world()
    cost = world.decide(dirty("web")).work.cost
    world.state.apply(world.decide(dirty("web")).writes)
    plan = Plan(world.state.services[WEB])
    plan.record(replace(plan.service, updated_at=NOW))
    assert plan.cost == WRITE_COST
    assert cost > 3 * WRITE_COST


@pytest.mark.usefixtures("recording")
def test_nothing_is_recorded_of_a_service_that_cannot_be_placed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def torn(*_: Any) -> None:
        raise RuntimeError("torn")

    monkeypatch.setattr("controller.brain.placing.Placing.place", torn)
    decision = decide(_world().state, dirty("web"), NOW, Numbered())
    assert decision.failed.keys() == {WEB}
    assert not decision.writes
