"""Ports that services of a stack give up and take in one change."""

import pytest

from controller.api.stacking.finish import rollback_stack
from controller.brain.slices import finish
from pyswarm_core.errors import Conflict
from pyswarm_core.stacks.spec import StackSpec
from pyswarm_core.state import State
from tests.fixtures import build
from tests.fixtures.build import NOW
from tests.fixtures.stacks import IDS, applied, service, stack
from tests.unit.controller.api.test_stacks import complete, stored


@pytest.fixture
def state() -> State:
    return build.state()


def ports(state: State) -> dict[str, list[int]]:
    return {
        one.spec.name: [port.published_port for port in one.endpoint.ports]
        for one in state.services.values()
        if not one.removing
    }


def test_services_exchange_their_ports_in_one_change(state: State) -> None:
    def shop(one: int, two: int) -> StackSpec:
        return stack("shop", service("shop", "a", port=one), service("shop", "b", port=two))

    for one, two in ((8080, 8081), (8081, 8080), (8082, 8081), (8081, 8080)):
        applied(state, shop(one, two))
        assert ports(state) == {"shop_a": [one], "shop_b": [two]}
        assert {number for _, number in state.published} == {one, two}
    complete(state)
    writes, _ = finish(rollback_stack(state, stored(state).id, 1, (), now=NOW, ids=IDS))
    state.apply(writes)
    assert ports(state) == {"shop_a": [8080], "shop_b": [8081]}


def test_two_services_of_a_change_get_no_common_port(state: State) -> None:
    before = stack("shop", service("shop", "a", port=8080), service("shop", "b", port=8081))
    applied(state, before)
    both = stack("shop", service("shop", "a", port=8082), service("shop", "b", port=8082))
    with pytest.raises(Conflict, match=r"port 8082/tcp is published by service .shop_a."):
        applied(state, both)
    with pytest.raises(Conflict, match=r"port 8080/tcp is published by service .shop_a."):
        applied(state, stack("shop", service("shop", "b", port=8080)))
    assert ports(state) == {"shop_a": [8080], "shop_b": [8081]}


def test_a_service_gets_the_port_of_one_that_goes(state: State) -> None:
    applied(state, stack("shop", service("shop", "old", port=8080)))
    after = stack("shop", service("shop", "new", port=8080))
    applied(state, after, prune=True)
    assert ports(state) == {"shop_new": [8080]}
    complete(state)
    writes, _ = finish(rollback_stack(state, stored(state).id, 0, (), now=NOW, ids=IDS))
    state.apply(writes)
    assert ports(state) == {"shop_old": [8080]}
