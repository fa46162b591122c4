"""An error for one object stops neither the others nor the term."""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest

from controller.api.queries.why import why
from controller.brain.decide import decide
from controller.brain.nodes import Greeted
from controller.brain.orchestrator import replicated_service
from controller.brain.orchestrator.plan import Plan
from controller.brain.orchestrator.quarantine import Failure, Quarantine, Stage
from controller.brain.placing import Placing
from controller.leader.agenda import Agenda
from controller.leader.loop import Loop
from controller.leader.persistence.loading import Loaded
from controller.leader.persistence.unsaved import Unsaved
from controller.leader.tools import Tools
from controller.metrics import Metrics
from pyswarm_core.aio.echo import NoEchoes
from pyswarm_core.decision import BEGINNING, Decision, Dirty, Writes
from pyswarm_core.ids import NetworkId, NodeId, ServiceId
from pyswarm_core.kinds import SERVICE
from pyswarm_core.state import State
from pyswarm_core.states import NodeState, TaskState
from tests.fixtures import build
from tests.fixtures.build import NOW, Numbered, dirty, node, nodes, service, task
from tests.fixtures.desk import StoppedClock

BAD, GOOD = ServiceId("bad"), ServiceId("good")


def _raises_for_bad(real: Callable[..., None]) -> Callable[..., None]:
    def broken(plan: Plan, *args: object) -> None:
        if plan.service.id == BAD:
            raise ZeroDivisionError("seven by none")
        real(plan, *args)

    return broken


@pytest.fixture
def broken_orchestrator(monkeypatch: pytest.MonkeyPatch) -> None:
    real = replicated_service.reconcile
    monkeypatch.setattr(replicated_service, "reconcile", _raises_for_bad(real))


def _world() -> State:
    return build.state(nodes=nodes(2), services=[service("bad"), service("good", replicas=2)])


@pytest.mark.usefixtures("broken_orchestrator")
def test_the_others_are_decided_and_the_failure_is_told() -> None:
    decision = decide(_world(), dirty("bad", "good"), NOW, Numbered())
    assert [(t.service_id, t.state) for t in decision.writes.tasks] == [
        (GOOD, TaskState.ASSIGNED)
    ] * 2
    assert decision.failed.keys() == {BAD}
    assert decision.failed[BAD].startswith("ZeroDivisionError: seven by none (decide.py:")


def test_an_error_in_placing_leaves_the_rest_to_the_next_decision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = Placing.place

    def place(self: Placing, plan: Plan) -> None:
        real(self, plan)
        if plan.service.id == BAD:
            raise KeyError("row")

    monkeypatch.setattr(Placing, "place", place)
    decision = decide(_world(), dirty("bad", "good"), NOW, Numbered())
    assert not decision.writes.tasks
    assert decision.failed.keys() == {BAD}
    assert decision.again == {GOOD: BEGINNING}
    after = decide(_world(), dirty("good"), NOW, Numbered())
    assert [t.service_id for t in after.writes.tasks] == [GOOD, GOOD]


def test_an_error_in_explaining_one_service_costs_that_service_alone() -> None:
    huge = build.template(memory=build.GIB << 10)
    state = build.state(nodes=nodes(1), services=[service("bad", spec=huge), service("good")])
    with patch("controller.brain.placing.message", side_effect=RuntimeError("no words")):
        decision = decide(state, dirty("bad", "good"), NOW, Numbered())
    assert [t.service_id for t in decision.writes.tasks] == [GOOD]
    assert decision.failed.keys() == {BAD}


def test_a_network_that_cannot_be_worked_out_makes_its_services_wait_and_be_removable() -> None:
    spec = build.template(networks=("torn",))
    torn = build.network("torn", subnet="not a subnet")
    state = build.state(
        nodes=nodes(1), services=[service("bad", spec=spec), service("good")], networks=[torn]
    )
    decision = decide(state, dirty("bad", "good"), NOW, Numbered())
    assert decision.failed_networks.keys() == {NetworkId("torn")}
    by_service = {t.service_id: t for t in decision.writes.tasks}
    assert by_service[GOOD].state is TaskState.ASSIGNED
    assert by_service[BAD].state is TaskState.PENDING
    assert "is broken" in by_service[BAD].detail.message
    state.apply(decision.writes)
    state.apply(Writes(objects=(service("bad", spec=spec, removing=True),)))
    state.apply(decide(state, dirty("bad"), NOW, Numbered(10)).writes)
    assert decide(state, dirty("bad"), NOW, Numbered(20)).writes.removed_of(SERVICE) == [BAD]


@pytest.mark.usefixtures("broken_orchestrator")
def test_it_is_tried_again_when_it_or_a_node_changes_and_not_every_turn() -> None:
    lost = node("n2", state=NodeState.DOWN)
    waiting = task("bad.1", state=TaskState.PENDING)
    state = build.state(
        nodes=[node("n1"), lost],
        services=[service("bad", replicas=2), service("good")],
        tasks=[waiting, task("bad.2", node="n2")],
    )
    agenda, quarantine = Agenda(), Quarantine()

    def turn() -> Decision:
        found = agenda.take(state)
        found.quarantined = quarantine.undecided()
        decision = decide(state, found, NOW, Numbered())
        agenda.follow_up(found, decision)
        quarantine.decided(found, decision)
        return decision

    agenda.add_services([BAD])
    assert turn().failed.keys() == {BAD}
    # It has a task that waits, and one on a lost node: both draw a decision's eye every time.
    agenda.add_services([GOOD])
    assert not turn().failed
    agenda.add_nodes([node("n1").id])
    agenda.add_services(quarantine.undecided())
    assert turn().failed.keys() == {BAD}
    agenda.add_services([BAD])
    assert turn().failed.keys() == {BAD}


class _Saves:
    """Takes everything."""

    revision, full, bytes_written = 1, "", 0

    async def yield_loop(self) -> None: ...

    async def save(self, state: State, unsaved: Unsaved) -> dict[str, str]:
        return {}


async def test_errors_in_placing_hold_up_nobody_when_a_node_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, tried = Placing.place, list[str]()

    def place(self: Placing, plan: Plan) -> None:
        tried.append(plan.service.id)
        if plan.service.id != GOOD:
            raise KeyError("row")
        real(self, plan)

    monkeypatch.setattr(Placing, "place", place)
    services = [service("bad"), service("evil"), service("good")]
    state = build.state(nodes=nodes(2), services=services)
    saver: Any = _Saves()
    loop = Loop(
        Loaded(state, 1, Unsaved()),
        Tools(decide, saver, StoppedClock(), Numbered(), Metrics(), (), NoEchoes),
    )
    for _ in range(6):
        await loop._turn()
    assert [t.service_id for t in state.tasks.values()] == [GOOD]
    tried.clear()
    loop.hello(NodeId("n1"), Greeted(state.nodes[NodeId("n1")].description, "192.0.2.77", ()))
    for _ in range(6):
        await loop._turn()
    assert tried == ["bad", "evil"], "each once, whatever else changed"
    assert not loop.queue_depths["dirty_nodes"]


def test_success_and_removal_lift_it_and_repetition_is_no_news() -> None:
    quarantine = Quarantine()
    failed = Decision(failed={BAD: "why"})
    assert quarantine.decided(dirty("bad"), failed) == [Failure(Stage.DECIDE, "service/bad", "why")]
    assert not quarantine.decided(dirty("bad"), failed)
    assert len(quarantine) == 1
    quarantine.decided(dirty("bad"), Decision(again={BAD: BEGINNING}))
    assert len(quarantine) == 1, "it was not decided at all"
    quarantine.decided(dirty("bad"), Decision())
    assert len(quarantine) == 0
    quarantine.decided(dirty("bad"), failed)
    quarantine.forget(Writes(removed=(SERVICE.object_name(BAD),)))
    assert len(quarantine) == 0


def test_why_says_so_for_the_service_and_its_tasks() -> None:
    state = build.state(nodes=nodes(1), services=[service("bad")], tasks=[task("bad.1", node="n1")])
    quarantine = Quarantine()
    quarantine.decided(Dirty(), Decision(failed={BAD: "KeyError: 7 (slots.py:9)"}))
    line = "it is quarantined, nothing is decided for it until it changes: KeyError: 7 (slots.py:9)"
    assert line in why(state, "bad", NOW, quarantine)
    assert line in why(state, "bad.1", NOW, quarantine)
    with patch("controller.api.queries.why._why_service", side_effect=ValueError("x")):
        lines = why(state, "bad", NOW, quarantine)
    assert lines[0] == line
    assert lines[1].startswith("its causes cannot be computed: ValueError: x")
