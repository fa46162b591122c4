"""Who may use which volumes, and directories of hosts."""

from typing import Any

import pytest
from google.protobuf.message import Message
from msgspec.structs import replace

from controller.api.permissions import authorize_request, sees
from controller.brain.slices import finish
from controller.brain.volumes import first_spec
from controller.identity.caller import Caller, CallerKind, Role
from controller.identity.policy import CONTROL, STACK_LABEL
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.codec import to_proto
from pyswarm_core.decision import Writes
from pyswarm_core.errors import PermissionDenied
from pyswarm_core.objects import Service
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.state import State
from pyswarm_core.volumes.mounts import Mount, MountType
from pyswarm_core.volumes.volume import VolumeSpec
from tests.fixtures import build

OPERATOR = Caller(CallerKind.USER, "u1", "ann", Role.OPERATOR, ())
ADMIN = Caller(CallerKind.USER, "u1", "ann", Role.ADMIN, ())
WEB = Caller(CallerKind.USER, "u1", "ann", Role.OPERATOR, ("web",))


@pytest.fixture
def state() -> State:
    made = build.state(nodes=build.nodes(1))
    volumes = [
        build.volume("mine", labels={STACK_LABEL: "web"}),
        build.volume("theirs", labels={STACK_LABEL: "db"}),
        build.volume("shared"),
    ]
    made.apply(Writes(objects=(*volumes, in_web(build.service("web_front")))))
    return made


def in_web(service: Service) -> Service:
    return replace(service, spec=replace(service.spec, labels={STACK_LABEL: "web"}))


def creating(spec: ServiceSpec) -> pb.CreateServiceRequest:
    request = pb.CreateServiceRequest()
    to_proto(spec, request.spec)
    return request


def ask(caller: Caller, rpc: str, state: State, request: Message) -> None:
    finish(authorize_request(caller, f"{CONTROL}{rpc}", request, state))


def refused(caller: Caller, rpc: str, state: State, request: Any) -> str:
    with pytest.raises(PermissionDenied) as error:
        ask(caller, rpc, state, request)
    return str(error.value)


def test_a_directory_of_the_host_is_an_admin_s(state: State) -> None:
    spec = build.service("web").spec
    bind = Mount(type=MountType.BIND, source="/srv", target="/srv", read_only=True)
    container = replace(spec.task_template.container_spec, mounts=(bind,))
    template = replace(spec.task_template, container_spec=container)
    request = creating(replace(spec, task_template=template))
    told = refused(OPERATOR, "CreateService", state, request)
    assert "with --mount type=bind,source=/srv,target=/srv: that gives a container power" in told
    ask(ADMIN, "CreateService", state, request)
    ask(OPERATOR, "CreateService", state, creating(build.with_mount(spec, "data")))


@pytest.mark.parametrize(("name", "allowed"), [
    ("mine", True), ("new", True), ("theirs", False), ("shared", False),
])  # fmt: skip
def test_a_user_of_a_stack_mounts_the_volumes_of_its_stacks_and_new_ones(
    state: State, name: str, *, allowed: bool
) -> None:
    front = in_web(build.service("web_front"))
    spec = build.with_mount(front.spec, name)
    update = pb.UpdateServiceRequest(ref="web_front")
    to_proto(spec, update.spec)
    for rpc, request in (("CreateService", creating(spec)), ("UpdateService", update)):
        if allowed:
            ask(WEB, rpc, state, request)
        else:
            told = refused(WEB, rpc, state, request)
            assert f'outside stack web: volume "{name}" does not belong to it' in told


def test_a_volume_that_a_service_creates_belongs_to_its_stack() -> None:
    spec = first_spec(in_web(build.service("web_front")), Mount(source="data", target="/data"))
    assert spec.labels == {STACK_LABEL: "web"}
    assert first_spec(build.service("web"), Mount(source="data", target="/data")).labels == {}


def test_a_user_of_a_stack_creates_sees_and_removes_its_volumes_alone(state: State) -> None:
    def request(name: str, **labels: str) -> pb.CreateVolumeRequest:
        made = pb.CreateVolumeRequest()
        stack = {STACK_LABEL: labels["stack"]} if labels else {}
        to_proto(VolumeSpec(name=name, labels=stack), made.spec)
        return made

    ask(WEB, "CreateVolume", state, request("new", stack="web"))
    assert "expected the label" in refused(WEB, "CreateVolume", state, request("new"))
    told = refused(WEB, "CreateVolume", state, request("theirs", stack="web"))
    assert 'volume "theirs" does not belong to it' in told
    ask(WEB, "RemoveObject", state, pb.ObjectRequest(kind="volume", ref="mine"))
    refused(WEB, "RemoveObject", state, pb.ObjectRequest(kind="volume", ref="shared"))
    assert [sees(WEB, state, name) for name in ("mine", "theirs", "shared")] == [True, False, False]
