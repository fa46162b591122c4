"""Which versions and images stay because a stack may return to them, and how they are found."""

import pytest
from msgspec.structs import replace

from controller.api.payloads.changes import Update, update_payload
from controller.api.registry.upkeep import needed_images
from controller.api.stacking.finish import finish_stack, rollback_stack
from controller.brain.slices import finish
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict
from pyswarm_core.kinds import SECRET, SERVICE
from pyswarm_core.stacks.limits import STACK_SLICE
from pyswarm_core.stacks.spec import StackSpec
from pyswarm_core.state import State
from tests.fixtures import build
from tests.fixtures.build import NOW
from tests.fixtures.stacks import IDS, applied, payload, service, stack
from tests.unit.controller.api.test_stacks import complete, stored

OLD, NEW = (f"web@sha256:{digit * 64}" for digit in "12")


@pytest.fixture
def state() -> State:
    return build.state()


def test_updates_by_hand_remove_no_version_that_the_stack_may_return_to(state: State) -> None:
    secrets = (payload("shop", "key", b"one"),)
    applied(state, stack("shop", service("shop", "a", secret="key"), secrets=secrets))
    applied(state, stack("shop", service("shop", "a", "web:2", secret="key"), secrets=secrets))
    for number in range(20):
        update = Update("shop_key", str(number).encode(), keep_versions=1)
        writes, _ = finish(update_payload(state, SECRET, update, NOW, IDS))
        state.apply(writes)
    versions = state.payloads[SECRET.name].of("shop_key")
    assert 1 in versions
    assert len(versions) < 20
    writes, _ = finish(rollback_stack(state, stored(state).id, 1, (), now=NOW, ids=IDS))
    assert writes


def test_the_registry_keeps_images_of_earlier_versions_of_stacks(state: State) -> None:
    applied(state, stack("shop", service("shop", "a", OLD), service("shop", "gone", OLD)))
    applied(state, stack("shop", service("shop", "b", NEW)), prune=True)
    complete(state)
    gone = [SERVICE.object_name(one.id) for one in state.services.values() if one.removing]
    state.apply(Writes(removed=tuple(gone)))
    assert "shop_a" not in state.service_of_name
    assert {one.partition("@")[2] for one in (OLD, NEW)} <= finish(needed_images(state))


def test_what_leaves_is_removed_in_slices(state: State) -> None:
    count = 10 * STACK_SLICE

    def shop(data: bytes) -> StackSpec:
        keys = (payload("shop", f"k{n}", data) for n in range(count))
        secrets = tuple(replace(one, spec=replace(one.spec, keep_versions=1)) for one in keys)
        return stack("shop", secrets=secrets)

    for data in (b"one", b"two", b"three"):
        applied(state, shop(data))
        complete(state)
    applied(state, shop(b"four"))
    found = stored(state)
    state.apply(Writes(objects=(replace(found, applying=False),)))
    assert len(found.leaving) >= count
    slices = sum(1 for _ in finish_stack(state, found.id, (), NOW, IDS))
    assert slices >= len(found.leaving) / STACK_SLICE


def test_a_rollback_to_a_version_whose_secret_was_pruned_is_refused_by_name(state: State) -> None:
    key = (payload("shop", "key", b"one"),)
    applied(state, stack("shop", service("shop", "a", secret="key"), secrets=key))
    applied(state, stack("shop", service("shop", "a", "web:2")))
    reply = applied(state, stack("shop", service("shop", "a", "web:3")), prune=True)
    (told,) = [one.reason for one in reply.changes if one.name == "shop_key"]
    assert told == "not in the file; no rollback to versions of the stack that use it"
    complete(state)
    complete(state)
    assert not state.of(SECRET)
    before = dict(state.services)
    text = (
        'stack "shop" cannot return to version 1: service shop_a uses secret shop_key@1, which was'
        " removed: roll back to version 2, or apply a file that has it"
    )
    for dry_run in (True, False):
        with pytest.raises(Conflict) as refused:
            finish(
                rollback_stack(state, stored(state).id, 1, (), now=NOW, ids=IDS, dry_run=dry_run)
            )
        assert str(refused.value) == text
    assert dict(state.services) == before
    writes, _ = finish(rollback_stack(state, stored(state).id, 2, (), now=NOW, ids=IDS))
    assert writes
