"""A container keeps its writable layer when its spec changes: who writes into it has the power of
every spec that it may run with. And requests whose names mean another task by now.
"""

from typing import Any

import pytest
from msgspec.structs import replace

from controller.api.permissions import authorize_request
from controller.brain.slices import finish
from controller.identity.caller import Caller, CallerKind, Role
from controller.identity.policy import CONTROL
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import streams_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.decision import Writes
from pyswarm_core.errors import PermissionDenied
from pyswarm_core.objects import PreviousSpec, Service
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from tests.fixtures import build

OPERATOR = Caller(CallerKind.USER, "u1", "ann", Role.OPERATOR)
ADMIN = replace(OPERATOR, role=Role.ADMIN)
PLAIN = build.container("box")
STREAMS: list[tuple[str, Any]] = [
    ("Exec", streams_pb2.ExecRequest(ref="box")),
    ("Attach", streams_pb2.AttachRequest(ref="box")),
    ("PortForward", streams_pb2.PortForwardRequest(ref="box", port=80)),
    ("CopyIn", streams_pb2.CopyInRequest(ref="box", path="/")),
    ("CopyOut", streams_pb2.CopyOutRequest(ref="box", path="/")),
    ("Export", streams_pb2.ExportRequest(ref="box")),
]


def _with(spec: ServiceSpec, **container: Any) -> ServiceSpec:
    template = spec.task_template
    changed = replace(template.container_spec, **container)
    return replace(spec, task_template=replace(template, container_spec=changed))


POWERFUL = _with(PLAIN.spec, privileged=True)


def _state(service: Service, version: int, state: TaskState = TaskState.RUNNING) -> State:
    task = build.task("box.1", node="n1", state=state)
    made = build.state(nodes=build.nodes(1), services=[service])
    made.apply(Writes(tasks=[replace(task, spec_version=version)]))
    return made


def _dropped(spec: ServiceSpec = PLAIN.spec) -> Service:
    """A container whose second spec has no such option: a rollback returns to the first, which
    does.
    """
    earlier = (PreviousSpec(version=1, spec=POWERFUL),)
    return replace(PLAIN, spec=spec, spec_version=2, template_version=2, previous_specs=earlier)


def _ask(caller: Caller, rpc: str, request: Any, state: State) -> None:
    finish(authorize_request(caller, f"{CONTROL}{rpc}", request, state))


def _refused(rpc: str, request: Any, state: State) -> None:
    with pytest.raises(PermissionDenied, match=r"with --privileged true: that .* the role admin"):
        _ask(OPERATOR, rpc, request, state)
    _ask(ADMIN, rpc, request, state)


def _update(spec: ServiceSpec) -> pb.UpdateServiceRequest:
    request = pb.UpdateServiceRequest(ref="box")
    to_proto(spec, request.spec)
    return request


def test_an_operator_takes_no_power_from_a_container() -> None:
    state = _state(replace(PLAIN, spec=POWERFUL), 1)
    _refused("UpdateService", _update(PLAIN.spec), state)
    _ask(OPERATOR, "UpdateService", _update(replace(POWERFUL, stopped=True)), state)


def test_an_operator_changes_no_container_that_a_rollback_gives_power() -> None:
    state = _state(_dropped(), 2)
    _refused("UpdateService", _update(_with(PLAIN.spec, args=("sh",))), state)
    _ask(OPERATOR, "UpdateService", _update(replace(PLAIN.spec, stopped=True)), state)


def test_an_operator_takes_no_power_from_a_container_by_a_rollback() -> None:
    earlier = (PreviousSpec(version=1, spec=PLAIN.spec),)
    service = replace(PLAIN, spec=POWERFUL, spec_version=2, previous_specs=earlier)
    _refused("RollbackService", pb.RollbackServiceRequest(ref="box"), _state(service, 2))


def test_a_service_keeps_no_layer() -> None:
    service = build.service("box")
    powerful = replace(service, spec=_with(service.spec, privileged=True))
    _ask(OPERATOR, "UpdateService", _update(service.spec), _state(powerful, 1))


@pytest.mark.parametrize(("rpc", "request_"), STREAMS, ids=[rpc for rpc, _ in STREAMS])
def test_the_layer_of_a_container_that_a_rollback_gives_power_is_an_admin_s(
    rpc: str, request_: Any
) -> None:
    _refused(rpc, request_, _state(_dropped(), 2))
    _ask(OPERATOR, rpc, request_, _state(PLAIN, 1))


@pytest.mark.parametrize(("rpc", "request_"), STREAMS[3:], ids=[rpc for rpc, _ in STREAMS[3:]])
def test_the_layer_of_a_container_that_was_given_power_while_stopped_is_an_admin_s(
    rpc: str, request_: Any
) -> None:
    earlier = (PreviousSpec(version=1, spec=PLAIN.spec),)
    stopped = replace(
        PLAIN,
        spec=replace(POWERFUL, stopped=True),
        spec_version=2,
        template_version=2,
        previous_specs=earlier,
    )
    _refused(rpc, request_, _state(stopped, 1, TaskState.COMPLETE))


@pytest.mark.parametrize(("rpc", "request_"), STREAMS, ids=[rpc for rpc, _ in STREAMS])
def test_a_task_whose_service_cannot_be_read_is_an_admin_s(rpc: str, request_: Any) -> None:
    state = build.state(nodes=build.nodes(1), tasks=[build.task("box.1", node="n1")])
    asked = type(request_).FromString(request_.SerializeToString())
    asked.ref = "box.1"
    with pytest.raises(PermissionDenied, match=r"whose options are unknown and needs the role"):
        _ask(OPERATOR, rpc, asked, state)
    _ask(ADMIN, rpc, asked, state)
