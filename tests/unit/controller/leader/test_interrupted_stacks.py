"""A leader that dies while it stores a stack: the next one completes it, or knows nothing of it."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from msgspec.structs import replace

from controller.api.stacking.apply import apply_stack
from controller.api.stacking.finish import finish_stack
from controller.brain.slices import finish
from controller.leader.persistence.saving import Encoder
from controller.leader.persistence.unsaved import Unsaved
from controller.store.base import Put
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.keys import Keys
from pyswarm_core.kinds import KINDS, STACK, VOLUME, split_name
from pyswarm_core.limits import TXN_PUTS
from pyswarm_core.objects import Object, Service
from pyswarm_core.specs import RegistryLogin, ReplicatedMode
from pyswarm_core.stacks.changes import ApplyStack
from pyswarm_core.stacks.spec import StackSpec
from pyswarm_core.stacks.stack import Stack
from pyswarm_core.state import State
from tests.fixtures import build
from tests.fixtures.build import NOW, Numbered
from tests.fixtures.envelopes import counted_nonces
from tests.fixtures.stacks import network, payload, service, stack, volume

LATER = Instant(NOW + SECOND)
KEYS = Keys()
SERVICES = 80
EVERY = 8
"""Of the places at which it is interrupted, which are tried."""
FEW = 24
assert SERVICES > TXN_PUTS


def big(image: str, password: bytes) -> StackSpec:
    return stack(
        "big",
        *(service("big", f"s{n}", image, secret="password" if n % 7 == 0 else "")
          for n in range(SERVICES)),
        networks=(network("big"), network("big", "back")),
        secrets=(payload("big", "password", password),),
    )  # fmt: skip


def copied(state: State) -> State:
    """As the next leader loads it."""
    objects: list[Object] = [one for kind in KINDS.values() for one in state.of(kind).values()]
    return loaded(state, objects)


def loaded(state: State, objects: list[Object]) -> State:
    fresh = State(state.cluster)
    fresh.apply(Writes(objects=tuple(objects)))
    return fresh


def interrupted(
    before: State, spec: StackSpec, now: Instant, *, every: int = EVERY, **more: Any
) -> Iterator[State]:
    """What the store has after each group of operations of the apply, in their order."""
    after = copied(before)
    request = ApplyStack(spec=spec, **more)
    writes, _ = finish(apply_stack(after, request, (), now, Numbered(now % 1000)))
    unsaved = Unsaved()
    name = STACK.object_name(writes.of(STACK)[0].id)
    beside = [one for one in names(writes) if one != name]
    unsaved.add(writes, after.apply(writes))
    unsaved.add_records(name, (), beside)
    stored = {
        kind.object_name(one.id): one for kind in KINDS.values() for one in before.of(kind).values()
    }
    counted = count()
    for phase in Encoder(after, KEYS, counted_nonces()).phases(unsaved):
        for group in phase:
            for operation in group:
                if not isinstance(operation, Put) or operation.key == KEYS.cluster:
                    continue
                put = KEYS.name_of(operation.key)
                kind, object_id = split_name(put)
                stored[put] = after.of(KINDS[kind])[object_id]  # type: ignore[index]
            in_order = [one for kind in KINDS for name, one in stored.items()
                        if split_name(name)[0] == kind]  # fmt: skip
            if next(counted) % every == 0:
                yield loaded(after, in_order)
    yield copied(after)


def names(writes: Writes) -> list[str]:
    return [kind.object_name(one.id) for kind in KINDS.values() for one in writes.of(kind)]


def completed(state: State) -> State:
    for one in list(state.of(STACK)) * 2:  # the second step finds all of it stored
        writes, _ = finish(finish_stack(state, one, (), LATER, Numbered(900_000)))
        state.apply(writes)
    return state


def specs(state: State) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Of each service its image and the versions that it uses."""
    return {
        one.spec.name: (
            one.spec.task_template.container_spec.image,
            tuple(r.number for r in one.spec.task_template.container_spec.references),
        )
        for one in state.services.values()
    }


def test_a_new_stack_is_complete_or_unknown() -> None:
    expected = {f"big_s{n}": ("web:1", (1,) if n % 7 == 0 else ()) for n in range(SERVICES)}
    seen = set()
    for state in interrupted(build.state(), big("web:1", b"one"), NOW):
        has_stack = bool(state.of(STACK))
        seen.add((has_stack, len(state.services) in (0, SERVICES)))
        if not has_stack:
            assert not state.services
            continue
        completed(state)
        assert specs(state) == expected
        assert set(state.network_of_name) == {"big_default", "big_back"}
        assert not next(iter(state.of(STACK).values())).applying
    assert {(False, True), (True, True), (True, False)} <= seen, "interrupted at every place"


@pytest.mark.parametrize("password", [b"one", b"two"])
def test_an_update_of_a_stack_is_complete_or_unknown(password: bytes) -> None:
    before = build.state()
    for state in interrupted(before, big("web:1", b"one"), NOW):
        before = state
    completed(before)
    number = 2 if password == b"two" else 1
    expected = {f"big_s{n}": ("web:2", (number,) if n % 7 == 0 else ()) for n in range(SERVICES)}
    old = specs(before)
    for state in interrupted(before, big("web:2", password), LATER):
        version = next(iter(state.of(STACK).values())).spec_version
        completed(state)
        assert specs(state) == (expected if version == 2 else old)


def test_another_number_of_replicas_is_everywhere_or_nowhere() -> None:
    before = everything(big("web:1", b"one"))
    few = [replace(one, mode=ReplicatedMode(replicas=3)) for one in big("web:1", b"one").services]
    spec = replace(big("web:1", b"one"), services=tuple(few))
    by_hand = before.services[before.service_of_name["big_s5"]]
    scaled = replace(by_hand, spec=replace(by_hand.spec, mode=ReplicatedMode(replicas=9)))
    before.apply(Writes(objects=(scaled,)))
    for state in interrupted(before, spec, LATER):
        version = next(iter(state.of(STACK).values())).spec_version
        completed(state)
        has = {one.spec.name: one.spec.mode for one in state.services.values()}
        if version == 2:
            assert set(has.values()) == {ReplicatedMode(replicas=3)}
        else:
            assert has["big_s5"] == ReplicatedMode(replicas=9)


def test_replicas_set_by_hand_stay_when_a_leader_completes_a_stack() -> None:
    before = everything(big("web:1", b"one"))
    by_hand = before.services[before.service_of_name["big_s79"]]
    scaled = replace(by_hand, spec=replace(by_hand.spec, mode=ReplicatedMode(replicas=9)))
    before.apply(Writes(objects=(scaled,)))
    for state in interrupted(before, big("web:2", b"one"), LATER):
        completed(state)
        found = state.services[state.service_of_name["big_s79"]]
        assert found.spec.mode == ReplicatedMode(replicas=9)


def test_what_is_pruned_goes_with_the_rest_or_stays() -> None:
    before = everything(big("web:1", b"one"))
    spec = big("web:2", b"one")
    spec = replace(spec, services=spec.services[4:])
    old = specs(before)
    for state in interrupted(before, spec, LATER, prune=True):
        version = next(iter(state.of(STACK).values())).spec_version
        completed(completed(state))
        has = {one.spec.name for one in state.services.values() if not one.removing}
        if version == 2:
            assert has == {one.name for one in spec.services}
        else:
            assert has == set(old)


def test_a_volume_has_its_password_or_does_not_exist() -> None:
    options = {"type": "cifs", "device": "//nas/x", "o": "addr=nas,username=u,password=right"}
    share = volume("big", "share", driver_opts=options)
    spec = stack("big", service("big", "s0", volume="share"), volumes=(share,))
    for state in interrupted(build.state(), spec, NOW, every=1):
        completed(state)
        if state.of(STACK):
            (found,) = state.of(VOLUME).values()
            assert "password=right" in found.secret_opts["o"]


def everything(spec: StackSpec) -> State:
    """A state with the stack."""
    state = build.state()
    for each in interrupted(state, spec, NOW):
        state = each
    return completed(state)


def by_hand(state: State, name: str, replicas: int) -> None:
    """A user scales a service."""
    service = state.services[state.service_of_name[name]]
    scaled = replace(service, spec=replace(service.spec, mode=ReplicatedMode(replicas=replicas)))
    state.apply(Writes(objects=(scaled,)))


def the_stack(state: State) -> Stack:
    return next(iter(state.of(STACK).values()))


def of_name(state: State, name: str) -> Service:
    return state.services[state.service_of_name[name]]


LOGIN = RegistryLogin("registry.test", "ann", "secret")


def test_services_that_a_leader_completes_get_what_their_request_asked_for() -> None:
    spec = big("registry.test/web:1", b"one")
    before = everything(spec)
    for name in ("big_s5", "big_s79"):
        by_hand(before, name, 9)
    asked = tuple(one.name for one in spec.services[:2] + spec.services[-2:])
    more = {"reset_scale": True, "recreate": asked, "logins": (LOGIN,)}
    for state in interrupted(before, spec, LATER, every=FEW, **more):
        assert the_stack(state).applying, "it is stored first"
        completed(state)
        assert {one.spec.mode for one in state.services.values()} == {ReplicatedMode(replicas=1)}
        forced = [
            one.spec.name
            for one in state.services.values()
            if one.spec.task_template.force_update == 1
        ]
        assert sorted(forced) == sorted(asked), "once, and no other"
        assert {one.registry_login for one in state.services.values()} == {LOGIN}
        assert not the_stack(state).pending
        assert not the_stack(state).logins


def test_the_number_of_one_service_is_set_by_a_leader_that_completes_the_change() -> None:
    spec = big("web:1", b"one")
    before = everything(spec)
    for name in ("big_s5", "big_s79"):
        by_hand(before, name, 9)
    for state in interrupted(before, spec, LATER, every=FEW, rescaled=("big_s79",)):
        completed(state)
        numbers = {
            one.spec.name: one.spec.mode.replicas
            for one in state.services.values()
            if isinstance(one.spec.mode, ReplicatedMode) and one.spec.mode.replicas != 1
        }
        assert numbers == {"big_s5": 9}


def test_new_services_that_a_leader_completes_have_their_logins() -> None:
    spec = big("registry.test/web:1", b"one")
    for state in interrupted(build.state(), spec, NOW, every=FEW, logins=(LOGIN,)):
        if state.of(STACK):
            completed(state)
            assert {one.registry_login for one in state.services.values()} == {LOGIN}


def test_a_number_that_users_set_after_the_leader_died_stays() -> None:
    before = everything(big("web:1", b"one"))
    by_hand(before, "big_s79", 9)
    for state in interrupted(before, big("web:1", b"one"), LATER, every=FEW, reset_scale=True):
        by_hand(state, "big_s79", 5)
        completed(state)
        assert of_name(state, "big_s79").spec.mode == ReplicatedMode(replicas=5)


def test_an_apply_of_some_services_leaves_the_others_to_who_completes_the_stack() -> None:
    before = everything(big("web:1", b"one"))
    some = ("big_s0",)
    after, second = big("web:3", b"one"), big("web:2", b"one")
    for state in interrupted(before, second, LATER, every=FEW, recreate=("big_s79",)):
        if the_stack(state).spec_version != 2 or not the_stack(state).applying:
            continue
        request = ApplyStack(spec=after, services=some, logins=(LOGIN,))
        writes, _ = finish(apply_stack(state, request, (), LATER, Numbered(800_000)))
        state.apply(writes)
        assert not {one for one in the_stack(state).pending if one.registry}
        completed(state)
        images = specs(state)
        assert images.pop("big_s0")[0] == "web:3"
        assert {image for image, _ in images.values()} == {"web:2"}
        assert of_name(state, "big_s79").spec.task_template.force_update == 1


def test_the_logins_of_a_stack_are_sealed_and_shown_to_nobody() -> None:
    state = build.state()
    request = ApplyStack(spec=big("registry.test/web:1", b"one"), logins=(LOGIN,))
    writes, reply = finish(apply_stack(state, request, (), NOW, Numbered(1)))
    (marked,) = writes.of(STACK)
    assert marked.logins == (LOGIN,)
    assert not STACK.shown(marked).logins
    assert {one.registry for one in marked.pending} == {"registry.test"}
    assert reply.stack is not None
