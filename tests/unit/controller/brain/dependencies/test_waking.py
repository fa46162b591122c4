"""What a change wakes, in decisions that have room for one service."""

from typing import Any

import pytest
from msgspec.structs import replace

from controller.brain.decide import decide
from controller.brain.dependencies import conditions
from controller.leader.agenda import Agenda
from pyswarm_core.clock import MINUTE, Instant
from pyswarm_core.decision import BEGINNING, WOKEN, Dirty
from pyswarm_core.ids import ServiceId
from pyswarm_core.limits import PLACING_COST
from pyswarm_core.objects import Service
from pyswarm_core.stacks.dependencies import Dependency
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from tests.unit.controller.brain.dependencies.shop import Shop, needs, service

DB, API, WEB = map(ServiceId, ("db", "api", "web"))


def rounds(shop: Shop, *changed: ServiceId) -> list[list[str]]:
    """The services that are to be decided, decision by decision, until none is left."""
    agenda = Agenda()
    agenda.add_services(changed)
    looked_at: list[list[str]] = []
    while agenda.services:
        looked_at.append(list(agenda.services))
        assert len(looked_at) < 30, "it does not end"
        dirty = agenda.take(shop.state)
        decision = decide(shop.state, dirty, shop.now, shop.ids, cost=PLACING_COST)
        agenda.follow_up(dirty, decision)
        shop.state.apply(decision.writes)
    return looked_at


def test_what_is_woken_wakes_nobody() -> None:
    shop = Shop(service("db"), service("api", needs("db")), service("web", needs("api")))
    shop.settle()
    assert rounds(shop, DB) == [["db"], ["api"]]


def test_a_service_in_the_middle_of_its_round_is_not_held_up_by_those_that_wait_for_it() -> None:
    waiting = [service(f"w{number}", needs("db")) for number in range(4)]
    shop = Shop(service("db", replicas=12), *waiting)
    shop.settle()
    for task in shop.desired("db"):
        shop.report(task.node_id, task, TaskState.FAILED)
    rounds(shop, DB)
    assert shop.states("w0") == ["pending"]


def test_services_of_a_circle_that_end_together_do_not_wake_each_other_for_ever() -> None:
    shop = Shop(service("db"), service("api", needs("db")))
    shop.converge()
    db = shop.of("db")
    ending = (
        replace(db, removing=True, spec=replace(db.spec, depends_on=(needs("api"),))),
        replace(shop.of("api"), removing=True),
    )
    shop.state.apply(type(shop.decide().writes)(objects=ending))
    rounds(shop, DB, API)


def test_what_is_decided_in_part_for_its_node_is_decided_as_a_whole_once_it_is_woken() -> None:
    shop = Shop(service("db"), service("web", needs("db"), replicas=None))
    shop.settle()
    for task in shop.desired("db"):
        shop.report(task.node_id, task, TaskState.RUNNING)
    dirty = Dirty()
    dirty.services.add(DB)
    dirty.nodes.update(shop.state.nodes)
    decision = decide(shop.state, dirty, shop.now, shop.ids)
    assert decision.again[WEB] in (BEGINNING, WOKEN)
    shop.settle(dirty)
    assert shop.states("web") == ["assigned"] * 3


def test_a_changed_service_that_is_woken_too_wakes_its_own() -> None:
    shop = Shop(service("db"), service("api", needs("db")), service("web", needs("api")))
    shop.settle()
    assert "web" in {one for each in rounds(shop, DB, API) for one in each}


def test_a_dependency_is_judged_once_for_all_that_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting = [service(f"w{number}", needs("db")) for number in range(30)]
    shop = Shop(service("db", replicas=5), *waiting)
    shop.settle()
    looked_at: list[str] = []
    judge = conditions._of_tasks

    def counted(state: State, found: Service, dependency: Dependency, desired: int) -> Any:
        looked_at.append(found.spec.name)
        return judge(state, found, dependency, desired)

    monkeypatch.setattr(conditions, "_of_tasks", counted)
    shop.report(shop.desired("db")[0].node_id, shop.desired("db")[0], TaskState.RUNNING)
    dirty = Dirty()
    dirty.services.add(DB)
    shop.now = Instant(shop.now + MINUTE)
    decision = decide(shop.state, dirty, shop.now, shop.ids)
    assert looked_at == ["db"]
    messages = [one.detail.message for one in decision.writes.tasks]
    assert messages.count("waits for db to start (1 of 5)") > 1
