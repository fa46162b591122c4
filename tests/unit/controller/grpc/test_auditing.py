"""Every RPC of users is a read, a change with a verb, or an action; what is refused is recorded."""

from itertools import chain
from typing import Any
from unittest.mock import Mock

import grpc
import pytest

from cli.main import COMMANDS
from controller.grpc.auditing import (
    ACTIONS,
    CHANGES,
    READS,
    Auditing,
    current_verb,
    record_refusal,
    ref_of,
)
from controller.grpc.callers import set_caller
from controller.identity.caller import ANONYMOUS, CONTROLLER, Caller, CallerKind, Role
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.codec import to_proto
from pyswarm_core.errors import (
    Conflict,
    Exhausted,
    InvalidArgument,
    PermissionDenied,
    PyswarmError,
    Unavailable,
)
from pyswarm_core.identity.audit import AuditRecord
from tests.fixtures import build
from tests.fixtures.build import Numbered
from tests.fixtures.desk import Desk, Term

ALICE = Caller(CallerKind.USER, "u1", "alice", Role.VIEWER)
RPCS = [method.name for method in pb.DESCRIPTOR.services_by_name["Control"].methods]


def test_every_rpc_has_its_place() -> None:
    assert sorted([*READS, *CHANGES, *ACTIONS]) == sorted(RPCS)


@pytest.mark.parametrize("verb", [verb for verb in (*CHANGES.values(), *ACTIONS.values()) if verb])
def test_verbs_are_those_of_the_command_line(verb: str) -> None:
    assert verb.partition(" ")[0] in COMMANDS


def refused(name: str, error: PyswarmError, caller: Caller = ALICE) -> list[AuditRecord]:
    desk = Desk(build.state(), Numbered())
    record_refusal(Term(desk), caller, name, error, pb.RefRequest(ref="web"))
    desk.audit.log.publish()
    return list(chain.from_iterable(desk.audit.log.kept()))


@pytest.mark.parametrize("error", [Conflict("no"), PermissionDenied("no"), InvalidArgument("no")])
def test_a_change_that_fails_is_recorded(error: PyswarmError) -> None:
    (record,) = refused("UpdateService", error)
    assert (record.verb, record.object, record.result) == ("service update", "service/web", "no")
    assert record.caller == "alice"


def test_of_reads_only_those_that_are_denied_are_recorded() -> None:
    assert refused("GetService", InvalidArgument("no")) == []
    (record,) = refused("GetService", PermissionDenied("denied"))
    assert (record.verb, record.result) == ("GetService", "denied")


@pytest.mark.parametrize("error", [Unavailable("no leader"), Exhausted("too many")])
def test_a_call_that_may_have_happened_or_never_began_is_not(error: PyswarmError) -> None:
    assert refused("UpdateService", error) == []


@pytest.mark.parametrize("caller", [ANONYMOUS, CONTROLLER])
def test_callers_without_an_identity_are_not(caller: Caller) -> None:
    assert refused("UpdateService", PermissionDenied("denied"), caller) == []


async def called(name: str, request: Any, behaviour: Any, desk: Desk) -> None:
    """Call the RPC through the interceptor, as alice."""
    set_caller(ALICE)
    handler = grpc.unary_unary_rpc_method_handler(behaviour)

    async def continuation(_: object) -> Any:
        return handler

    details: Any = Mock(method=f"/pyswarm.v1.Control/{name}")
    wrapped = await Auditing(Term(desk)).intercept_service(continuation, details)
    try:
        await wrapped.unary_unary(request, None)
    finally:
        desk.audit.log.publish()


async def test_a_call_has_its_verb_and_its_failure_is_recorded_once() -> None:
    desk, verbs = Desk(build.state(), Numbered()), []

    async def behaviour(request: Any, context: Any) -> None:
        verbs.append(current_verb())
        raise Conflict("update out of sequence")

    with pytest.raises(Conflict):
        await called("UpdateService", pb.UpdateServiceRequest(ref="web"), behaviour, desk)
    (record,) = chain.from_iterable(desk.audit.log.kept())
    assert verbs == [record.verb] == ["service update"]
    assert (record.object, record.result) == ("service/web", "update out of sequence")


async def test_an_action_is_recorded_and_a_read_is_not() -> None:
    desk = Desk(build.state(), Numbered())

    async def behaviour(request: Any, context: Any) -> None:
        pass

    await called("SignalTask", pb.SignalTaskRequest(ref="web.1", signal="HUP"), behaviour, desk)
    await called("GetService", pb.RefRequest(ref="web"), behaviour, desk)
    (record,) = chain.from_iterable(desk.audit.log.kept())
    assert (record.caller, record.verb, record.object) == ("alice", "task signal", "task/web.1")
    assert record.result == "ok"


def test_the_object_is_what_the_request_names() -> None:
    assert ref_of(pb.RefRequest(ref="web")) == "web"
    assert ref_of(pb.ObjectRequest(kind="user", ref="alice")) == "user/alice"
    assert ref_of(pb.PullImageRequest(reference="web:1")) == "web:1"
    created = pb.CreateServiceRequest()
    created.spec.name = "web"
    assert ref_of(created) == "web"
    assert ref_of(pb.GetInfoRequest()) == ""


async def test_a_refused_removal_has_the_verb_of_its_kind_and_the_object() -> None:
    desk = Desk(build.state(), Numbered())

    async def behaviour(request: Any, context: Any) -> None:
        raise PermissionDenied("that needs the role admin")

    with pytest.raises(PermissionDenied):
        await called("RemoveObject", pb.ObjectRequest(kind="user", ref="bob"), behaviour, desk)
    (record,) = chain.from_iterable(desk.audit.log.kept())
    assert (record.verb, record.object) == ("user rm", "user/bob")


def test_an_object_that_was_named_by_its_id_has_its_name() -> None:
    service = build.service("web")
    desk = Desk(build.state(services=[service]), Numbered())
    request = pb.RefRequest(ref=service.id)
    record_refusal(Term(desk), ALICE, "UpdateService", PermissionDenied("no"), request)
    desk.audit.log.publish()
    (record,) = chain.from_iterable(desk.audit.log.kept())
    assert record.object == "service/web"


@pytest.mark.parametrize(
    ("ref", "condition", "verb"),
    [
        ("web", "any", "service scale"),
        ("nothing", "any", "service update"),
        ("web", "sometimes", "service update"),
    ],
)
def test_a_refused_update_has_the_verb_of_the_command(ref: str, condition: str, verb: str) -> None:
    service = build.service("web", replicas=2)
    desk = Desk(build.state(services=[service]), Numbered())
    request = pb.UpdateServiceRequest(ref=ref)
    to_proto(service.spec, request.spec)
    request.spec.mode.replicated.replicas = 7
    request.spec.task_template.restart_policy.condition = condition
    record_refusal(Term(desk), ALICE, "UpdateService", PermissionDenied("no"), request)
    desk.audit.log.publish()
    (record,) = chain.from_iterable(desk.audit.log.kept())
    assert (record.verb, record.result) == (verb, "no")
