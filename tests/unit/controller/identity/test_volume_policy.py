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
from pyswarm_core.specs import GlobalMode, ReplicatedMode, ServiceSpec
from pyswarm_core.state import State
from pyswarm_core.volumes.mounts import Driver, Mount, MountType, VolumeOptions
from pyswarm_core.volumes.volume import VolumeSpec
from tests.fixtures import build
from tests.fixtures.build import NOW

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


@pytest.mark.parametrize(("options", "told"), [
    ({"type": "none", "o": "ro,bind", "device": "/etc"}, "--opt o=ro,bind"),
    ({"type": "ext4", "device": "/dev/sda"}, "--opt type=ext4"),
    ({"type": "nfs", "device": ":/x", "o": "addr=a"}, ""),
    ({"type": "tmpfs", "device": "/etc", "o": '{{"bind"}}'}, '--opt o={{"bind"}}'),
    ({"size": "1g"}, ""),
])  # fmt: skip
def test_a_volume_that_shows_what_is_on_the_host_is_an_admin_s(
    state: State, options: dict[str, str], told: str
) -> None:
    request = pb.CreateVolumeRequest()
    to_proto(VolumeSpec(name="new", driver_opts=options), request.spec)
    spec = build.with_mount(build.service("web").spec, "new")
    (mount,) = spec.task_template.container_spec.mounts
    given = VolumeOptions(driver_config=Driver(options=options))
    container = replace(
        spec.task_template.container_spec, mounts=(replace(mount, volume_options=given),)
    )
    service = creating(
        replace(spec, task_template=replace(spec.task_template, container_spec=container))
    )
    for rpc, asked in (("CreateVolume", request), ("CreateService", service)):
        ask(ADMIN, rpc, state, asked)
        if told:
            assert "needs the role admin" in refused(OPERATOR, rpc, state, asked)
        else:
            ask(OPERATOR, rpc, state, asked)
    if told:
        assert f"with {told}: that shows files" in refused(OPERATOR, "CreateVolume", state, request)


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
    given = VolumeOptions(labels={STACK_LABEL: "db", "tier": "1"})
    mount = Mount(source="data", target="/data", volume_options=given)
    spec = first_spec(in_web(build.service("web_front")), mount)
    assert spec.labels == {STACK_LABEL: "web", "tier": "1"}


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


def test_a_template_names_every_volume_of_its_slots(state: State) -> None:
    state.apply(Writes(objects=(build.volume("data-2", labels={STACK_LABEL: "db"}),)))
    spec = in_web(build.service("web_db", replicas=1)).spec
    spec = build.with_mount(spec, "data-{{.Task.Slot}}")
    ask(WEB, "CreateService", state, creating(spec))
    spec = replace(spec, mode=ReplicatedMode(replicas=2))
    assert "data-2" in refused(WEB, "CreateService", state, creating(spec))


@pytest.mark.parametrize("name", [
    "{{if .Service.ID}}theirs{{else}}mine{{end}}",
    '{{if eq .Service.ID ""}}mine{{else}}theirs{{end}}',
    '{{with .Service}}{{slice .ID 0 1}}{{end}}',
])  # fmt: skip
def test_no_template_chooses_a_volume_by_what_is_not_known_yet(state: State, name: str) -> None:
    spec = build.with_mount(in_web(build.service("web_db")).spec, name)
    told = refused(WEB, "CreateService", state, creating(spec))
    assert "expected {{.Service.ID}} by itself" in told
    ask(OPERATOR, "CreateService", state, creating(spec))
    update = pb.UpdateServiceRequest(ref="web_front")
    to_proto(spec, update.spec)
    assert "expected {{.Service.ID}} by itself" in refused(WEB, "UpdateService", state, update)


def test_no_template_chooses_a_volume_by_nodes_that_join_later(state: State) -> None:
    service = replace(in_web(build.service("web_db")).spec, mode=GlobalMode())
    for name, is_fine in (
        ('{{if eq .Node.Hostname "later"}}theirs{{else}}mine{{end}}', False),
        ("web-{{.Node.Hostname}}-{{.Service.ID}}", True),
    ):
        request = creating(build.with_mount(service, name))
        if is_fine:
            ask(WEB, "CreateService", state, request)
        else:
            told = refused(WEB, "CreateService", state, request)
            assert "expected {{.Node.Hostname}} by itself" in told


def test_labels_that_a_bind_of_an_admin_names_are_an_admin_s(state: State) -> None:
    bind = Mount(type=MountType.BIND, source='/srv/{{index .Service.Labels "dir"}}', target="/srv")
    spec = build.service("app").spec
    container = replace(spec.task_template.container_spec, mounts=(bind,))
    template = replace(spec.task_template, container_spec=container)
    service = replace(build.service("app"), spec=replace(spec, task_template=template))
    state.apply(Writes(objects=(service,)))
    update = pb.UpdateServiceRequest(ref="app")
    to_proto(service.spec, update.spec)
    ask(OPERATOR, "UpdateService", state, update)
    update.spec.labels["dir"] = "secrets"
    assert "that gives a container power" in refused(OPERATOR, "UpdateService", state, update)
    ask(ADMIN, "UpdateService", state, update)


def test_a_volume_that_another_stack_has_made_since_is_not_mounted(state: State) -> None:
    front = in_web(build.service("web_front"))
    service = replace(front, spec=build.with_mount(front.spec, "later"), updated_at=NOW)
    update = pb.UpdateServiceRequest(ref="web_front")
    to_proto(service.spec, update.spec)
    for admitted, stack, is_fine in (
        (("later",), "db", True),  # an admin had it mount that
        ((), "db", False),
        (("another one of that name",), "db", False),
        ((), "web", True),
    ):
        made = build.volume("later", labels={STACK_LABEL: stack})
        state.apply(Writes(objects=(made, replace(service, volumes_of_others=admitted))))
        if is_fine:
            ask(WEB, "UpdateService", state, update)
        else:
            assert 'volume "later"' in refused(WEB, "UpdateService", state, update)


def test_a_volume_that_the_service_ceased_to_mount_is_not_mounted_again(state: State) -> None:
    front = replace(in_web(build.service("web_front")), volumes_of_others=("theirs",))
    state.apply(Writes(objects=(front,)))
    update = pb.UpdateServiceRequest(ref="web_front")
    to_proto(build.with_mount(front.spec, "theirs"), update.spec)
    assert 'volume "theirs"' in refused(WEB, "UpdateService", state, update)
