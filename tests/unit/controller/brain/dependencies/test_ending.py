"""Services that are stopped or removed together end in the reverse order."""

import pytest
from msgspec.structs import replace

from controller.api.queries.why import why
from controller.brain.decide import decide
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Dirty, Writes
from pyswarm_core.ids import ServiceId
from pyswarm_core.limits import PLACING_COST
from pyswarm_core.stacks.limits import END_SLACK
from pyswarm_core.states import Availability, NodeState, TaskState
from tests.fixtures.brain_world import changed
from tests.unit.controller.brain.dependencies.shop import Shop, needs, service

GRACE = 10 * SECOND


def chain() -> Shop:
    """A web that needs an api that needs a db; all runs."""
    shop = Shop(service("db"), service("api", needs("db")), service("web", needs("api")))
    shop.converge()
    return shop


def ending(shop: Shop) -> list[str]:
    """The services all of whose tasks were told to end."""
    tasks = {name: shop.tasks(name) for name in ("db", "api", "web")}
    return [
        name
        for name, held in tasks.items()
        if all(task.desired_state > TaskState.RUNNING for task in held)
    ]


@pytest.mark.parametrize("stopped", [True, False])
def test_dependents_end_first(stopped: bool) -> None:
    shop = chain()
    shop.together(["db", "api", "web"], stopped=stopped)
    assert ending(shop) == ["web"]
    assert shop.states("db") == ["running"]
    assert "its tasks end after those of api" in why(shop.state, shop.of("db").id, shop.now)
    shop.stop_tasks("web")
    assert ending(shop) == ["api", "web"]
    shop.stop_tasks("api")
    assert ending(shop) == ["db", "api", "web"]
    shop.converge()
    assert ("db" in shop.state.services) is stopped


def test_a_service_that_waits_to_end_takes_no_room_for_its_drained_node() -> None:
    shop = chain()
    shop.together(["api", "web"], stopped=False)
    (task,) = shop.tasks("api")
    node = shop.state.nodes[task.node_id]
    drained = replace(node, spec=replace(node.spec, availability=Availability.DRAIN))
    shop.state.apply(Writes(objects=(drained,)))
    dirty = Dirty()
    dirty.services.add(shop.of("web").id)
    decision = decide(shop.state, dirty, shop.now, shop.ids, cost=PLACING_COST)
    assert shop.of("web").id not in decision.again


def test_a_dependent_that_stays_is_not_waited_for() -> None:
    shop = chain()
    shop.together(["db"], stopped=True)
    assert ending(shop) == ["db"]


def test_a_dependent_that_does_not_end_is_not_waited_for_without_end() -> None:
    shop = chain()
    begin = shop.now
    shop.together(["db", "api"], stopped=False)
    assert ending(shop) == ["api"]
    assert shop.wakes[ServiceId("db")] == begin + GRACE + END_SLACK
    shop.now = Instant(begin + GRACE + END_SLACK)
    shop.tell("db")
    assert ending(shop) == ["db", "api"]


def test_each_link_of_a_chain_has_its_time() -> None:
    shop = chain()
    begin = shop.now
    shop.together(["db", "api", "web"], stopped=True)
    assert shop.wakes[ServiceId("db")] == begin + 2 * (GRACE + END_SLACK)
    shop.now = Instant(begin + GRACE + END_SLACK)
    shop.tell("api", "db")
    assert ending(shop) == ["api", "web"]


def test_a_dependent_on_a_node_that_is_down_is_not_waited_for() -> None:
    shop = chain()
    node = shop.state.nodes[shop.desired("api")[0].node_id]
    shop.together(["web"], stopped=True)
    shop.converge()
    shop.together(["db", "api"], stopped=True)
    assert ending(shop) == ["api", "web"]
    shop.put_node(changed(node, state=NodeState.DOWN))
    shop.tell("api", "db")
    assert "db" in ending(shop)


def test_specs_of_different_times_that_form_a_circle_end_all_the_same() -> None:
    shop = chain()
    db = shop.of("db")
    shop.state.services[ServiceId("db")] = db
    shop.together(["web"], stopped=False)
    looped = replace(db, spec=replace(db.spec, depends_on=(needs("api"),)))
    shop.apply(looped)
    shop.together(["db", "api"], stopped=False)
    shop.now = Instant(shop.now + 4 * (GRACE + END_SLACK))
    shop.converge()
    assert not shop.state.services
