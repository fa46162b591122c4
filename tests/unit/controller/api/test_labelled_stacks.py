"""Stacks that nobody applied, which are a label alone. And requests that are read in slices."""

import pytest

from controller.api.changes.networks import create_network
from controller.api.changes.services import create_service
from controller.api.stacking.finish import finish_stack, remove_stack
from controller.api.stacks import SERVICES_AT_ONCE, read_stack
from controller.brain.slices import finish
from pyswarm_core.api.v1 import stacks_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.decision import Writes
from pyswarm_core.errors import NotFound
from pyswarm_core.kinds import SERVICE, STACK
from pyswarm_core.stacks.changes import ApplyStack
from pyswarm_core.state import State
from tests.fixtures import build
from tests.fixtures.build import NOW
from tests.fixtures.stacks import IDS, actions, applied, network, service, stack

SHOP = stack("shop", service("shop", "web"))


@pytest.fixture
def state() -> State:
    return build.state()


def complete(state: State) -> None:
    """Everything that the leader does by itself, and tasks that end at once."""
    for _ in range(3):
        for one in list(state.of(STACK)):
            state.apply(finish(finish_stack(state, one, (), NOW, IDS))[0])
        gone = [SERVICE.object_name(one.id) for one in state.services.values() if one.removing]
        state.apply(Writes(removed=tuple(gone)))


def test_removal_takes_what_has_the_label_alone(state: State) -> None:
    applied(state, SHOP)
    for spec in (service("hand", "web", networks=()), service("hand", "db", networks=())):
        state.apply(create_service(state, spec, (), NOW, IDS)[0])
    state.apply(create_network(state, network("hand"), (), NOW, IDS)[0])
    writes, reply = finish(remove_stack(state, "hand", NOW, IDS, volumes=False))
    state.apply(writes)
    assert actions(reply) == dict.fromkeys(("hand_web", "hand_db", "hand_default"), "removed")
    assert [one.spec.name for one in state.of(STACK).values() if one.removing] == ["hand"]
    again, _ = finish(remove_stack(state, "hand", NOW, IDS, volumes=False))
    assert not again
    complete(state)
    assert [one.spec.name for one in state.of(STACK).values()] == ["shop"]
    assert list(state.service_of_name) == ["shop_web"]
    assert "hand_default" not in state.network_of_name
    for ref in ("hand", ""):
        with pytest.raises(NotFound):
            finish(remove_stack(state, ref, NOW, IDS, volumes=False))


def test_a_label_comes_before_the_beginning_of_an_id(state: State) -> None:
    applied(state, SHOP)
    (shop,) = state.of(STACK)
    name = shop[:4]
    state.apply(create_service(state, service(name, "web", networks=()), (), NOW, IDS)[0])
    _, reply = finish(remove_stack(state, name, NOW, IDS, volumes=False))
    assert actions(reply) == {f"{name}_web": "removed"}


def test_a_large_stack_is_read_a_few_services_at_once() -> None:
    spec = stack("big", *(service("big", f"s{n}") for n in range(3 * SERVICES_AT_ONCE)))
    message = to_proto(ApplyStack(spec=spec), stacks_pb2.ApplyStackRequest())
    reading = read_stack(message.spec)
    for _ in range(3):
        next(reading)
    assert finish(reading) == spec
