"""Many services that follow a secret, and a leader that dies between two transactions."""

from typing import TypeVar

import pytest
from msgspec.structs import replace

from controller.api.changes.services import Rollback, rollback_service
from controller.api.payloads import changes
from controller.api.payloads.changes import update_payload
from controller.api.permissions import authorize_request
from controller.brain.decide import decide
from controller.brain.following import brought_forward
from controller.brain.slices import Slices, finish
from controller.identity.caller import Caller, CallerKind, Role
from controller.identity.policy import CONTROL
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Dirty, EventKind, Writes
from pyswarm_core.errors import PermissionDenied
from pyswarm_core.kinds import CONFIG, SECRET, SERVICE
from pyswarm_core.limits import SLICE_OBJECTS
from pyswarm_core.objects import Service
from pyswarm_core.payloads import syntax
from pyswarm_core.payloads.limits import SLICE_FOLLOWERS
from pyswarm_core.payloads.references import NO_SIGNAL
from tests.fixtures.build import NOW
from tests.unit.controller.api.test_payloads import World, secret

T = TypeVar("T")
LATER = Instant(NOW + SECOND)


class Left(World):
    """A leader that stores a new version, and dies before the services that follow it."""

    def die(self, data: bytes = b"two", reload: str = "") -> dict[str, Service]:
        """The services as they should have been stored, by name."""
        update = changes.Update("db", data, None, reload)
        writes, _ = finish(update_payload(self.state, SECRET, update, LATER, self.ids))
        self.state.apply(replace(writes, objects=writes.objects[-1:], removed=()))
        return {item.spec.name: item for item in writes.objects if isinstance(item, Service)}

    def decide(self) -> tuple[list[Service], list[str]]:
        """What the next leader writes of services, and the events."""
        dirty = Dirty()
        dirty.services.update(self.state.services)
        decision = decide(self.state, dirty, Instant(LATER + SECOND), self.ids)
        self.state.apply(decision.writes)
        assert not decision.failed
        kind, action = EventKind.UPDATE_STARTED.split(".")
        reasons = [e.reason for e in decision.events if (e.type, e.action) == (kind, action)]
        return [one for one in decision.writes.objects if isinstance(one, Service)], reasons


@pytest.fixture
def world() -> Left:
    made = Left()
    made.create()
    return made


@pytest.mark.parametrize("reload", ["", "HUP", NO_SIGNAL])
def test_the_next_leader_brings_services_to_the_version_as_the_first_would(
    world: Left, reload: str
) -> None:
    for name in ("web", "api"):
        world.serve(name, secret())
    world.serve("pinned", secret(number=1))
    expected = world.die(reload=reload)
    assert (world.numbers("web"), world.versions()) == ([1], [1, 2])
    changed, reasons = world.decide()
    assert {one.spec.name: one.spec for one in changed} == {
        name: one.spec for name, one in expected.items()
    }
    assert {one.spec_version for one in changed} == {2}
    assert reasons == ["db@2: continues what another leader began"] * 2
    assert world.numbers("pinned") == [1]
    assert world.decide() == ([], [])


def test_a_service_that_was_rolled_back_or_changed_since_stays(world: Left) -> None:
    service = world.serve("web", secret())
    world.update(b"two")
    writes, _ = rollback_service(world.state, Rollback("web"), (), NOW, world.ids)
    world.state.apply(writes)
    web = world.service("web")
    assert brought_forward(world.state, web, LATER) is None
    # Also by a leader whose clock is late: a kept spec names the version.
    early = replace(web, updated_at=Instant(0), created_at=Instant(0))
    assert brought_forward(world.state, early, LATER) is None
    forgotten = replace(web, previous_specs=())
    assert brought_forward(world.state, forgotten, LATER) is None
    assert service.spec_version < web.spec_version


def test_what_it_cannot_have_leaves_a_service_as_it_is(world: Left) -> None:
    world.serve("web", syntax.secret_env("A=db"))
    (made,) = world.state.of(SECRET).values()
    bad = replace(made, id="bad", number=2, data=b"\0", created_at=LATER)
    world.state.apply(Writes(objects=(bad,)))
    assert world.decide() == ([], [])
    assert world.numbers("web") == [1]


def _counted(work: Slices[T], slices: list[None]) -> Slices[T]:
    while True:
        try:
            slices.append(next(work))
        except StopIteration as done:
            found: T = done.value
            return found
        yield


def test_an_update_is_decided_in_slices() -> None:
    world = World()
    world.create()
    count = 3 * SLICE_FOLLOWERS
    for number in range(count):
        world.serve(f"s{number}", secret())
    assert SLICE_FOLLOWERS == 20
    work = update_payload(world.state, SECRET, changes.Update("db", b"two"), NOW, world.ids)
    next(work)
    gone = list(world.state.services)[-1]
    world.state.apply(Writes(removed=(SERVICE.object_name(gone),)))
    slices: list[None] = []
    writes, made = finish(_counted(work, slices))
    assert len(made.services) == count - 1
    assert len(slices) >= 2 * 3 - 1
    assert len(writes.objects) == count


def test_what_an_update_writes_is_applied_in_parts() -> None:
    world = World()
    world.create()
    for number in range(2 * SLICE_OBJECTS):
        world.serve(f"s{number}", secret())
    update = changes.Update("db", b"two", 0)
    work = update_payload(world.state, SECRET, update, NOW, world.ids)
    writes, made = finish(work)
    writes = replace(writes, removed=("config/c1",))
    assert SLICE_OBJECTS == 100
    parts = list(writes.parts(SLICE_OBJECTS))
    assert [len(one.objects) for one in parts] == [100, 100, 1]
    assert parts[0].objects[0] is made.payload, "it exists before the services that name it"
    assert [one.removed for one in parts] == [(), (), ("config/c1",)]
    assert sorted(o.id for one in parts for o in one.objects) == sorted(
        o.id for o in writes.objects
    )
    assert list(writes.parts(1_000)) == [writes]


OPERATOR = Caller(CallerKind.USER, "u1", "ann", Role.OPERATOR)
POWER = "gives a container power over its host and needs the role admin"


def _update(world: World, method: str, caller: Caller, ref: str = "db") -> None:
    request = pb.UpdatePayloadRequest(ref=ref, data=b"two")
    finish(authorize_request(caller, f"{CONTROL}{method}", request, world.state))


@pytest.mark.parametrize("method", ["UpdateSecret", "UpdateConfig"])
def test_who_may_not_give_an_option_changes_no_file_in_a_container_with_it(method: str) -> None:
    world = World()
    world.create()
    world.create(CONFIG)
    reference = secret() if method == "UpdateSecret" else syntax.config("db")
    web = world.serve("web", reference)
    _update(world, method, OPERATOR)
    template = web.spec.task_template
    strong = replace(template.container_spec, privileged=True)
    spec = replace(web.spec, task_template=replace(template, container_spec=strong))
    world.state.apply(Writes(objects=(replace(web, spec=spec),)))
    with pytest.raises(PermissionDenied) as caught:
        _update(world, method, OPERATOR)
    kind = method.removeprefix("Update").lower()
    assert str(caught.value) == (
        f'user "ann" (operator) may not update {kind}s of service "web" with --privileged true:'
        f" that {POWER}"
    )
    _update(world, method, replace(OPERATOR, role=Role.ADMIN))
    _update(world, "UpdateConfig" if method == "UpdateSecret" else "UpdateSecret", OPERATOR)


def test_a_pinned_version_and_a_service_that_is_removed_are_not_changed() -> None:
    world = World()
    world.create()
    web = world.serve("web", secret(number=1))
    template = web.spec.task_template
    template = replace(template, container_spec=replace(template.container_spec, privileged=True))
    pinned = replace(web, spec=replace(web.spec, task_template=template))
    world.state.apply(Writes(objects=(pinned,)))
    _update(world, "UpdateSecret", OPERATOR)
