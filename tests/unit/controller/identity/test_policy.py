"""The table of RPCs, options that need the role admin, and stacks: `controller/identity/policy.py`
and `controller/api/permissions.py`.
"""

from typing import Any

import pytest
from grpc_health.v1 import health_pb2
from msgspec.structs import replace

from controller.api.permissions import authorize_request, current, sees, sees_event
from controller.brain.slices import finish
from controller.identity.caller import ANONYMOUS, CONTROLLER, ROOT, Caller, CallerKind, Role
from controller.identity.policy import CONTROL, DISPATCHER, RULES, STACK_LABEL, Named, authorize
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import dispatcher_pb2, files_pb2, streams_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.decision import Writes
from pyswarm_core.errors import PermissionDenied
from pyswarm_core.identity.users import User, UserId, UserSpec
from pyswarm_core.objects import PreviousSpec
from pyswarm_core.specs import (
    ContainerMode,
    Device,
    LogDriver,
    NetworkAttachment,
    NetworkSpec,
    ServiceSpec,
)
from pyswarm_core.state import State
from pyswarm_core.views import Event
from tests.fixtures import build

AGENT = Caller(CallerKind.AGENT, "n1", "host1")


def _user(role: Role, *stacks: str) -> Caller:
    return Caller(CallerKind.USER, "u1", "ann", role, stacks)


VIEWER, OPERATOR, ADMIN = map(_user, Role)
WEB = _user(Role.OPERATOR, "web")


def _service(name: str, stack: str = "", **container: Any) -> Any:
    made = build.service(name)
    template = made.spec.task_template
    spec = replace(
        made.spec,
        labels={STACK_LABEL: stack} if stack else {},
        task_template=replace(
            template, container_spec=replace(template.container_spec, **container)
        ),
    )
    return replace(made, spec=spec)


def _joining(service: Any, *targets: str) -> Any:
    networks = tuple(NetworkAttachment(target=one) for one in targets)
    template = replace(service.spec.task_template, networks=networks)
    return replace(service, spec=replace(service.spec, task_template=template))


def _logging(service: Any, driver: str, **options: str) -> Any:
    log_driver = LogDriver(
        name=driver, options={key.replace("_", "-"): text for key, text in options.items()}
    )
    template = replace(service.spec.task_template, log_driver=log_driver)
    return replace(service, spec=replace(service.spec, task_template=template))


def _network(name: str, stack: str = "", **spec: Any) -> Any:
    made = build.network(name)
    labels = {STACK_LABEL: stack} if stack else {}
    return replace(made, spec=replace(made.spec, labels=labels, **spec))


@pytest.fixture
def state() -> State:
    made = build.state(nodes=build.nodes(1))
    made.apply(
        Writes(
            objects=(
                _network("web_net", "web"),
                _network("db_net", "db"),
                _network("shared"),
                _network("mesh", ingress=True),
                _service("web_front", "web"),
                _service("db_main", "db"),
                _service("plain"),
                _joining(_service("web_admin", "web"), "host", "shared"),
            ),
            tasks=[build.task("web_front.1", node="n1"), build.task("db_main.1", node="n1")],
        )
    )
    return made


def _ask(caller: Caller, rpc: str, state: State, request: Any) -> None:
    finish(authorize_request(caller, f"{CONTROL}{rpc}", request, state))


def _refused(caller: Caller, rpc: str, state: State, request: Any) -> str:
    with pytest.raises(PermissionDenied) as refusal:
        _ask(caller, rpc, state, request)
    return str(refusal.value)


def _create(spec: ServiceSpec) -> pb.CreateServiceRequest:
    request = pb.CreateServiceRequest()
    to_proto(spec, request.spec)
    return request


def _update(ref: str, spec: ServiceSpec, **more: Any) -> pb.UpdateServiceRequest:
    request = pb.UpdateServiceRequest(ref=ref, **more)
    to_proto(spec, request.spec)
    return request


def _methods() -> list[str]:
    files = (pb.DESCRIPTOR, dispatcher_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR)
    return [
        f"/{service.full_name}/{method.name}"
        for file in files
        for service in file.services_by_name.values()
        for method in service.methods
    ]


def test_every_rpc_is_in_the_table_and_nothing_else() -> None:
    served = [one for one in _methods() if one != "/grpc.health.v1.Health/List"]
    assert sorted(RULES) == sorted(served)


def test_an_rpc_that_is_not_in_the_table_is_refused_to_everybody() -> None:
    for caller in (ROOT, ADMIN, AGENT, CONTROLLER, ANONYMOUS):
        with pytest.raises(PermissionDenied, match="no rule allows it"):
            authorize(caller, f"{CONTROL}Explode")


def test_every_rule_of_users_says_what_a_user_of_a_stack_may_do() -> None:
    unlimited = [m for m, rule in RULES.items() if rule.role and rule.named is Named.NOTHING]
    calls = ("GetInfo", "ReadRegistry", "WriteRegistry", "ListRegistry", "PullImage", "GetCa")
    assert unlimited == [f"{CONTROL}{call}" for call in calls]


def test_an_error_names_the_caller_its_role_the_verb_and_the_role_that_is_needed() -> None:
    for caller, rpc, text in (
        (
            VIEWER,
            "CreateService",
            'user "ann" (viewer) may not create services: that needs the role operator',
        ),
        (
            _user(Role.OPERATOR, "web", "db"),
            "RemoveNode",
            'user "ann" (operator, limited to stacks web, db) may not remove nodes: that needs the'
            " role admin",
        ),
        (
            AGENT,
            "ListServices",
            'the agent of node "host1" may not list services: that needs a user with the role'
            " viewer, who identifies with a certificate or a token",
        ),
    ):
        with pytest.raises(PermissionDenied) as refusal:
            authorize(caller, f"{CONTROL}{rpc}")
        assert str(refusal.value) == text
    with pytest.raises(PermissionDenied, match="only the agents of nodes may"):
        authorize(ROOT, f"{DISPATCHER}Session")
    with pytest.raises(PermissionDenied, match="only hosts that join may"):
        authorize(ADMIN, f"{DISPATCHER}Join")


def test_a_user_has_the_role_and_stacks_that_it_has_now(state: State) -> None:
    user = User(id=UserId("u1"), spec=UserSpec(name="ann", role=Role.VIEWER, stacks=("db",)))
    state.apply(Writes(objects=(user,)))
    now = current(ADMIN, state)
    assert (now.role, now.stacks) == (Role.VIEWER, ("db",))
    state.apply(Writes(removed=("user/u1",)))  # type: ignore[arg-type]
    with pytest.raises(PermissionDenied, match="was removed"):
        current(ADMIN, state)


# Kinds


def test_objects_of_some_kinds_need_another_role(state: State) -> None:
    for rpc in ("GetObject", "ListObjects", "RemoveObject"):
        request = pb.ObjectRequest(kind="user", ref="x")
        told = _refused(OPERATOR, rpc, state, request)
        assert told.endswith("of the kind user: that needs the role admin")
        _ask(ADMIN, rpc, state, request)
    _refused(OPERATOR, "RemoveObject", state, pb.ObjectRequest(kind="node", ref="n1"))
    _ask(VIEWER, "GetObject", state, pb.ObjectRequest(kind="node", ref="n1"))
    _ask(OPERATOR, "RemoveObject", state, pb.ObjectRequest(kind="network", ref="shared"))


# Options

NAMESPACES = ("pid", "ipc", "uts", "cgroupns")
POWERS = [
    ("--network host", _joining(_service("x"), "host")),
    ("--cap-add SYS_ADMIN", _service("x", capability_add=("CHOWN", "SYS_ADMIN"))),
    ("--cap-add cap_net_admin", _service("x", capability_add=("cap_net_admin",))),
    ("--cap-add ALL", _service("x", capability_add=("ALL",))),
    ("--sysctl net.core.somaxconn", _service("x", sysctls={"net.core.somaxconn": "9"})),
    ("--sysctl kernel.shmmax", _service("x", sysctls={"kernel.shmmax": "9"})),
    ("--oom-score-adj -1", _service("x", oom_score_adj=-1)),
    ("--log-driver syslog", _logging(_service("x"), "syslog")),
    *(
        ("--log-driver syslog", _logging(_service("x"), "syslog", syslog_address=address))
        for address in (
            "tcp://127.0.0.1:2379",
            "udp://169.254.169.254:80",
            "unix:///run/docker.sock",
            "unixgram:///dev/log",
        )
    ),
    ("--log-driver journald", _logging(_service("x"), "journald", tag="sshd")),
    ("--privileged true", _service("x", privileged=True)),
    *((f"--{kind} host", _service("x", **{f"{kind}_mode": "host"})) for kind in NAMESPACES),
    ("--device /dev/kvm", _service("x", devices=(Device(path_on_host="/dev/kvm"),))),
    ("--device-cgroup-rule a *:* rwm", _service("x", device_cgroup_rules=("a *:* rwm",))),
    ("--security-opt seccomp=unconfined", _service("x", security_opt=("seccomp=unconfined",))),
    ("--security-opt seccomp=FILE", _service("x", security_opt=("seccomp={}" + 99 * " ",))),
    ("--security-opt apparmor=mine", _service("x", security_opt=("apparmor=mine",))),
    (
        "--security-opt systempaths=unconfined",
        _service("x", security_opt=("systempaths=unconfined",)),
    ),
    ("--pid host", _service("x", pid_mode="host", userns_mode="auto")),
    (
        f'--device "/dev/{75 * "x"}..."',
        _service("x", devices=(Device(path_on_host="/dev/" + 99 * "x"),)),
    ),
]
HARMLESS = [
    *(_logging(_service("x"), driver) for driver in ("", "json-file", "local", "none")),
    _joining(_service("x"), "bridge"),
    _joining(_service("x"), "none"),
    _service("x", capability_add=("CHOWN", "CAP_NET_RAW")),
    _service("x", capability_drop=("ALL",)),
    _service("x", sysctls={"net.ipv4.ip_unprivileged_port_start": "0"}),
    _service("x", oom_score_adj=1),
    _service("x", tmpfs={"/run": "exec,dev"}, shm_size=1 << 30, read_only=True),
    _service("x", ipc_mode="shareable", userns_mode="auto", cgroupns_mode="private"),
    _service("x", security_opt=("no-new-privileges=false", "label=disable")),
]


@pytest.mark.parametrize(("option", "service"), POWERS, ids=[option for option, _ in POWERS])
def test_options_with_power_over_the_host_need_an_admin(
    state: State, option: str, service: Any
) -> None:
    told = _refused(OPERATOR, "CreateService", state, _create(service.spec))
    assert f"may not create services with {option}: that " in told
    assert told.endswith("and needs the role admin")
    _ask(ADMIN, "CreateService", state, _create(service.spec))
    _ask(ROOT, "CreateService", state, _create(service.spec))
    told = _refused(OPERATOR, "UpdateService", state, _update("plain", service.spec))
    assert f"may not update services with {option}" in told
    earlier = PreviousSpec(version=1, spec=service.spec)
    state.apply(Writes(objects=(replace(_service("plain"), previous_specs=(earlier,)),)))
    request = pb.RollbackServiceRequest(ref="plain", to=1)
    assert f"with {option}" in _refused(OPERATOR, "RollbackService", state, request)
    _ask(ADMIN, "RollbackService", state, request)


@pytest.mark.parametrize("service", HARMLESS)
def test_other_options_need_no_admin(state: State, service: Any) -> None:
    _ask(OPERATOR, "CreateService", state, _create(service.spec))
    _ask(OPERATOR, "UpdateService", state, _update("plain", service.spec))


def test_an_operator_scales_and_stops_what_an_admin_gave_power_but_does_not_change_its_template(
    state: State,
) -> None:
    spec = state.services[state.service_of_name["web_admin"]].spec
    _ask(OPERATOR, "UpdateService", state, _update("web_admin", replace(spec, stopped=True)))
    container = replace(spec.task_template.container_spec, image="other")
    changed = replace(spec, task_template=replace(spec.task_template, container_spec=container))
    _refused(OPERATOR, "UpdateService", state, _update("web_admin", changed))
    _refused(OPERATOR, "UpdateService", state, _update("web_admin", spec, query_registry=True))


@pytest.mark.parametrize(("option", "service"), POWERS, ids=[option for option, _ in POWERS])
def test_programs_in_a_task_with_power_over_the_host_need_an_admin(
    state: State, option: str, service: Any
) -> None:
    task = build.task("x.1", node="n1", task_id="task1")
    state.apply(Writes(objects=(service,), tasks=[task]))
    for ref in ("x", "x.1", "task1", "x.1.task1"):
        request = streams_pb2.ExecRequest(ref=ref)
        told = _refused(OPERATOR, "Exec", state, request)
        assert f"may not execute commands in tasks with {option}: that " in told
        assert told.endswith("and needs the role admin")
        _ask(ADMIN, "Exec", state, request)
    told = _refused(OPERATOR, "Attach", state, streams_pb2.AttachRequest(ref="x"))
    assert f"may not attach to tasks with {option}" in told
    copy = streams_pb2.CopyInRequest(ref="x", path="/etc")
    told = _refused(OPERATOR, "CopyIn", state, copy)
    assert f"may not copy files into containers with {option}" in told
    _refused(OPERATOR, "CopyOut", state, streams_pb2.CopyOutRequest(ref="x", path="/etc"))
    _refused(OPERATOR, "Export", state, streams_pb2.ExportRequest(ref="x"))
    _ask(OPERATOR, "Changes", state, files_pb2.ChangesRequest(ref="x"))
    _ask(ADMIN, "CopyIn", state, copy)
    told = _refused(OPERATOR, "PortForward", state, streams_pb2.PortForwardRequest(ref="x"))
    assert f"may not forward ports of tasks with {option}" in told
    _ask(ADMIN, "PortForward", state, streams_pb2.PortForwardRequest(ref="x"))


def test_privileged_commands_need_an_admin(state: State) -> None:
    request = streams_pb2.ExecRequest(ref="web_front", privileged=True)
    told = _refused(OPERATOR, "Exec", state, request)
    assert "may not execute commands in tasks with --privileged: that gives a container" in told
    _ask(ADMIN, "Exec", state, request)
    _refused(VIEWER, "Exec", state, streams_pb2.ExecRequest(ref="web_front"))


def test_the_ingress_network_is_an_admin_s(state: State) -> None:
    request = pb.CreateNetworkRequest()
    to_proto(NetworkSpec(name="mesh2", ingress=True), request.spec)
    assert "with --ingress true" in _refused(OPERATOR, "CreateNetwork", state, request)
    _ask(ADMIN, "CreateNetwork", state, request)


# Stacks

_OUTSIDE = 'user "ann" (operator, limited to stack web) may not'


@pytest.mark.parametrize(
    ("rpc", "request_of"),
    [
        ("GetService", lambda name: pb.RefRequest(ref=name)),
        ("WatchService", lambda name: pb.WatchServiceRequest(ref=name)),
        ("RemoveService", lambda name: pb.RemoveServiceRequest(ref=name)),
        ("Why", lambda name: pb.RefRequest(ref=name)),
        ("Why", lambda name: pb.RefRequest(ref=f"{name}.1")),
        ("Logs", lambda name: pb.LogsRequest(ref=name)),
        ("Logs", lambda name: pb.LogsRequest(ref=f"{name}.1")),
        ("RestartTask", lambda name: pb.RefRequest(ref=f"{name}.1")),
        ("SignalTask", lambda name: pb.SignalTaskRequest(ref=f"{name}.1")),
        ("TaskChecks", lambda name: pb.RefRequest(ref=f"{name}.1")),
        ("GetObject", lambda name: pb.ObjectRequest(kind="service", ref=name)),
        ("RemoveObject", lambda name: pb.ObjectRequest(kind="service", ref=name)),
        ("Top", lambda name: files_pb2.TopRequest(ref=name)),
        ("Changes", lambda name: files_pb2.ChangesRequest(ref=f"{name}.1")),
        ("PauseContainer", lambda name: pb.RefRequest(ref=name)),
        ("UnpauseContainer", lambda name: pb.RefRequest(ref=f"{name}.1")),
        ("WaitContainer", lambda name: files_pb2.WaitRequest(ref=name)),
        ("CopyOut", lambda name: streams_pb2.CopyOutRequest(ref=name)),
        ("CopyIn", lambda name: streams_pb2.CopyInRequest(ref=f"{name}.1")),
        ("Export", lambda name: streams_pb2.ExportRequest(ref=name)),
        ("Exec", lambda name: streams_pb2.ExecRequest(ref=name)),
        ("Exec", lambda name: streams_pb2.ExecRequest(ref=f"{name}.1")),
        ("Attach", lambda name: streams_pb2.AttachRequest(ref=name, wait=True)),
        ("PortForward", lambda name: streams_pb2.PortForwardRequest(ref=name)),
        ("TraceNetwork", lambda name: pb.TraceNetworkRequest(source=name, target="web_front")),
        ("TraceNetwork", lambda name: pb.TraceNetworkRequest(source="web_front", target=name)),
    ],
)
def test_a_user_of_a_stack_reaches_the_objects_of_its_stacks_alone(
    state: State, rpc: str, request_of: Any
) -> None:
    _ask(WEB, rpc, state, request_of("web_front"))
    told = _refused(WEB, rpc, state, request_of("db_main"))
    assert told.startswith(_OUTSIDE)
    assert "outside stack web: " in told
    assert "db_main" in told
    _ask(OPERATOR, rpc, state, request_of("db_main"))


@pytest.mark.parametrize(
    "rpc",
    [
        "GetNode",
        "ListNodes",
        "RemoveImage",
        "PruneImages",
        "SaveImage",
        "GetRegistryUsage",
        "CollectRegistry",
        "PushImage",
    ],
)
def test_what_belongs_to_no_stack_is_closed_to_a_user_of_a_stack(state: State, rpc: str) -> None:
    told = _refused(WEB, rpc, state, pb.RefRequest(ref="n1"))
    assert "they belong to no stack" in told
    assert "they belong to no stack" in _refused(
        WEB, "ListObjects", state, pb.ListObjectsRequest(kind="node")
    )


def test_a_new_service_has_the_label_of_the_stack(state: State) -> None:
    _ask(WEB, "CreateService", state, _create(_service("web_new", "web").spec))
    told = _refused(WEB, "CreateService", state, _create(_service("new").spec))
    assert f"expected the label {STACK_LABEL}=web; the spec has no such label" in told
    told = _refused(WEB, "CreateService", state, _create(_service("new", "db").spec))
    assert 'the spec has the label with the value "db"' in told


def test_a_service_is_not_moved_out_of_the_stack(state: State) -> None:
    for stack in ("db", ""):
        spec = _service("web_front", stack).spec
        told = _refused(WEB, "UpdateService", state, _update("web_front", spec))
        assert f"expected the label {STACK_LABEL}=web" in told
    moved = PreviousSpec(version=1, spec=_service("web_front", "db").spec)
    service = replace(_service("web_front", "web"), previous_specs=(moved,))
    state.apply(Writes(objects=(service,)))
    request = pb.RollbackServiceRequest(ref="web_front", to=1)
    assert "expected the label" in _refused(WEB, "RollbackService", state, request)


def test_a_service_of_a_stack_joins_networks_of_its_stacks(state: State) -> None:
    for target in ("web_net", "mesh", "bridge", "nowhere"):
        spec = _joining(_service("web_new", "web"), target).spec
        _ask(WEB, "CreateService", state, _create(spec))
    for target in ("db_net", "shared"):
        spec = _joining(_service("web_new", "web"), target).spec
        told = _refused(WEB, "CreateService", state, _create(spec))
        assert f'network "{target}" does not belong to it' in told
        told = _refused(WEB, "UpdateService", state, _update("web_front", spec))
        assert f'network "{target}" does not belong to it' in told


def test_a_container_of_a_stack_is_connected_to_networks_of_its_stacks(state: State) -> None:
    web = state.services[state.service_of_name["web_front"]]
    web = replace(web, spec=replace(web.spec, mode=ContainerMode()))
    state.apply(Writes(objects=(web,)))
    _ask(WEB, "UpdateService", state, _update("web_front", _joining(web, "web_net").spec))
    told = _refused(WEB, "UpdateService", state, _update("web_front", _joining(web, "db_net").spec))
    assert 'network "db_net" does not belong to it' in told
    told = _refused(WEB, "UpdateService", state, _update("db_main", _joining(web, "web_net").spec))
    assert 'service "db_main" does not belong to it' in told
    viewer = replace(WEB, role=Role.VIEWER)
    _refused(viewer, "UpdateService", state, _update("web_front", _joining(web, "web_net").spec))


def test_a_network_that_an_admin_had_a_service_join_stays(state: State) -> None:
    spec = state.services[state.service_of_name["web_admin"]].spec
    _ask(WEB, "UpdateService", state, _update("web_admin", replace(spec, stopped=True)))


def test_networks_of_a_stack(state: State) -> None:
    _ask(WEB, "GetNetwork", state, pb.GetNetworkRequest(ref="web_net"))
    for name in ("db_net", "shared", "mesh"):
        told = _refused(WEB, "GetNetwork", state, pb.GetNetworkRequest(ref=name))
        assert f'network "{name}"' in told
    for word in ("bridge", "host", "none"):
        assert sees(WEB, state, word)
        _ask(WEB, "GetNetwork", state, pb.GetNetworkRequest(ref=word))
        _ask(WEB, "GetObject", state, pb.ObjectRequest(kind="network", ref=word))
        _refused(WEB, "RemoveObject", state, pb.ObjectRequest(kind="network", ref=word))
    request = pb.CreateNetworkRequest()
    to_proto(NetworkSpec(name="x"), request.spec)
    assert "expected the label" in _refused(WEB, "CreateNetwork", state, request)
    request.spec.labels[STACK_LABEL] = "web"
    _ask(WEB, "CreateNetwork", state, request)


def test_lists_show_a_user_of_a_stack_its_objects(state: State) -> None:
    shown = {
        *(one for one in (*state.services, *state.networks, *state.nodes) if sees(WEB, state, one)),
        *(task for task in state.tasks if sees(WEB, state, task)),
    }
    names = {"web_front", "web_admin", "web_net", "web_front.1"}
    assert shown == names
    assert all(sees(OPERATOR, state, one) for one in (*state.services, *state.tasks, "gone"))
    assert not sees(WEB, state, "gone")


def test_events_show_a_user_of_a_stack_its_objects() -> None:
    web, db = Event("task", "state", stack="web"), Event("task", "state", stack="db")
    none = Event("node", "down")
    assert [sees_event(WEB, one) for one in (web, db, none)] == [True, False, False]
    assert all(sees_event(VIEWER, one) for one in (web, db, none))


@pytest.mark.parametrize("action", ["create", "update", "remove", "quarantine"])
def test_events_of_users_are_for_admins(action: str) -> None:
    event = Event("user", action, "u2", "bob")
    assert [sees_event(one, event) for one in (VIEWER, OPERATOR, WEB)] == [False] * 3
    assert all(sees_event(one, event) for one in (ADMIN, ROOT))
