"""Which secrets and configs a user of a stack removes."""

import pytest

from controller.api.changes.removal import remove_object
from controller.api.payloads.changes import New, Update, create_payload, update_payload
from controller.api.permissions import authorize_request
from controller.brain.slices import finish
from controller.identity.caller import Caller, CallerKind, Role
from controller.identity.policy import CONTROL, STACK_LABEL
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.errors import InvalidArgument, PermissionDenied
from pyswarm_core.kinds import SECRET
from pyswarm_core.payloads.payload import PayloadSpec
from pyswarm_core.state import State
from tests.fixtures import build
from tests.fixtures.build import NOW, Numbered

WEB = Caller(CallerKind.USER, "u1", "ann", Role.OPERATOR, ("web",))


@pytest.fixture
def state() -> State:
    made, ids = build.state(nodes=build.nodes(1)), Numbered()
    for name, stack in (("db", "web"), ("theirs", "db")):
        spec = PayloadSpec(name=name, labels={STACK_LABEL: stack}, keep_versions=5)
        writes, _ = create_payload(made, SECRET, New(spec, b"one"), NOW, ids)
        made.apply(writes)
        writes, _ = finish(update_payload(made, SECRET, Update(name, b"two"), NOW, ids))
        made.apply(writes)
    return made


def remove(state: State, ref: str) -> None:
    request = pb.ObjectRequest(kind="secret", ref=ref)
    allowed = finish(authorize_request(WEB, f"{CONTROL}RemoveObject", request, state))
    writes, _ = remove_object(state, SECRET, allowed.ref, NOW)
    state.apply(writes)


def versions(state: State) -> list[int]:
    return sorted(state.payloads[SECRET.name].of("db"))


def test_the_newest_version_by_its_number_does_not_mean_all(state: State) -> None:
    with pytest.raises(InvalidArgument, match="secret 'db@2' is the newest version"):
        remove(state, "db@2")
    assert versions(state) == [1, 2]
    remove(state, "db@1")
    assert versions(state) == [2]
    remove(state, "db@2")
    assert not versions(state)


def test_the_name_means_all_and_no_other_stack_s(state: State) -> None:
    for ref in ("theirs", "theirs@2", "theirs@1"):
        with pytest.raises(PermissionDenied, match="does not belong"):
            remove(state, ref)
    remove(state, "db")
    assert not versions(state)
