"""Who may apply, roll back and remove which stacks."""

from typing import Any

import pytest
from msgspec.structs import replace

from controller.api.changes.services import create_service
from controller.api.permissions import authorize_request
from controller.brain.slices import finish
from controller.identity.caller import Caller, CallerKind, Role
from controller.identity.policy import CONTROL
from pyswarm_core.api.v1 import stacks_pb2
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.errors import NotFound, PermissionDenied
from pyswarm_core.specs import ClusterSpec, ContainerMode, NetworkAttachment, ServiceSpec
from pyswarm_core.stacks.changes import ApplyStack
from pyswarm_core.stacks.spec import StackSpec
from pyswarm_core.state import State
from pyswarm_core.volumes.mounts import BindOptions, Driver, Mount, MountType
from tests.fixtures import build
from tests.fixtures.stacks import IDS, applied, network, payload, service, stack, volume

WEB = Caller(CallerKind.USER, "u1", "ci", role=Role.OPERATOR, stacks=("web",))
OPERATOR = Caller(CallerKind.USER, "u2", "ann", role=Role.OPERATOR)
VIEWER = Caller(CallerKind.USER, "u3", "eve", role=Role.VIEWER)
ADMIN = Caller(CallerKind.USER, "u4", "bob", role=Role.ADMIN)
OUTSIDE = "outside stack web"


@pytest.fixture
def state() -> State:
    """With a stack `db` that has everything."""
    made = build.state()
    applied(
        made,
        stack(
            "db",
            service("db", "main", secret="password", config="page", volume="data"),
            secrets=(payload("db", "password", b"one"),),
            configs=(payload("db", "page", b"one"),),
            volumes=(volume("db", "data"),),
        ),
    )
    return made


def ask(caller: Caller, state: State, spec: StackSpec) -> Any:
    request = to_proto(ApplyStack(spec=spec), stacks_pb2.ApplyStackRequest())
    return finish(authorize_request(caller, f"{CONTROL}ApplyStack", request, state))


def refused(caller: Caller, state: State, spec: StackSpec) -> str:
    with pytest.raises(PermissionDenied) as caught:
        ask(caller, state, spec)
    return str(caught.value)


def using(name: str, **theirs: Any) -> ServiceSpec:
    """A service of stack `web` that uses something of stack `db`."""
    mine, other = service("web", "main"), service("db", "main", **theirs)
    container = other.task_template.container_spec
    template = replace(mine.task_template, container_spec=container)
    if name == "network":
        template = replace(mine.task_template, networks=(NetworkAttachment(target="db_default"),))
    return replace(mine, task_template=template)


def test_a_user_of_a_stack_removes_what_has_its_label_alone(state: State) -> None:
    for name in ("web", "other"):
        spec = service(name, "main", networks=())
        state.apply(create_service(state, spec, (), build.NOW, IDS)[0])
    method = f"{CONTROL}RemoveStack"
    remove = stacks_pb2.RemoveStackRequest(ref="web")
    assert finish(authorize_request(WEB, method, remove, state)).ref == "web"
    remove = stacks_pb2.RemoveStackRequest(ref="other")
    with pytest.raises(NotFound):
        finish(authorize_request(WEB, method, remove, state))
    assert finish(authorize_request(OPERATOR, method, remove, state)).ref == "other"


def test_a_user_of_a_stack_applies_this_stack_alone(state: State) -> None:
    ask(WEB, state, stack("web", service("web", "main")))
    assert OUTSIDE in refused(WEB, state, stack("db", service("db", "main")))
    ask(OPERATOR, state, stack("db", service("db", "main")))
    assert "needs the role operator" in refused(VIEWER, state, stack("web"))


@pytest.mark.parametrize(
    "spec",
    [
        stack("web", using("network")),
        stack("web", using("secret", secret="password")),
        stack("web", using("config", config="page")),
        stack("web", using("volume", volume="data")),
        stack("web", replace(service("web", "main"), name="db_main")),
        stack("web", networks=(replace(network("web"), name="db_default"),)),
        stack("web", volumes=(replace(volume("web", "x"), name="db_data"),)),
        stack("web", networks=(network("db", "new"),)),
        stack("web", service("db", "new")),
        stack("web", secrets=(payload("db", "new", b"x"),)),
    ],
)
def test_nothing_of_another_stack_is_used_or_taken(state: State, spec: StackSpec) -> None:
    assert OUTSIDE in refused(WEB, state, spec)


def test_a_secret_of_another_stack_is_not_replaced(state: State) -> None:
    one = payload("web", "x", b"two")
    taken = replace(one, spec=replace(one.spec, name="db_password"))
    assert OUTSIDE in refused(WEB, state, stack("web", secrets=(taken,)))


def test_options_with_power_need_an_admin(state: State) -> None:
    powers = stack("web", service("web", "main", privileged=True))
    told = refused(OPERATOR, state, powers)
    assert 'apply stacks that have service "web_main" with --privileged' in told
    ask(ADMIN, state, powers)
    told = refused(OPERATOR, state, stack("web", networks=(network("web", ingress=True),)))
    assert "--ingress" in told


def test_who_follows_a_secret_has_its_power_asked_for(state: State) -> None:
    powers = stack(
        "web",
        service("web", "main", secret="key", privileged=True),
        secrets=(payload("web", "key", b"one"),),
    )
    applied(state, powers)
    harmless = stack("web", secrets=(payload("web", "key", b"two"),))
    assert "--privileged" in refused(OPERATOR, state, harmless)
    ask(OPERATOR, state, stack("web", secrets=(payload("web", "key", b"one"),)))


def test_binds_are_confined_to_what_operators_may_bind(state: State) -> None:
    spec = ClusterSpec(allowed_bind_paths=("/srv",))
    state.cluster = replace(state.cluster, spec=spec)

    def binding(path: str) -> StackSpec:
        mount = Mount(type=MountType.BIND, source=path, target="/x", bind_options=BindOptions())
        return stack("web", service("web", "main", mounts=(mount,)))

    served = from_proto(ApplyStack, ask(OPERATOR, state, binding("/srv/data")))
    (mount,) = served.spec.services[0].task_template.container_spec.mounts
    assert mount.bind_options is not None
    assert mount.bind_options.beneath == "/srv"
    assert "may not" in refused(OPERATOR, state, binding("/etc"))


def test_rollback_and_removal_are_of_ones_own_stack(state: State) -> None:
    applied(state, stack("db", service("db", "main", "web:2")))
    applied(state, stack("web", service("web", "main", privileged=True)))
    applied(state, stack("web", service("web", "main")))
    for rpc, message in (
        ("RollbackStack", stacks_pb2.RollbackStackRequest),
        ("RemoveStack", stacks_pb2.RemoveStackRequest),
    ):
        method = f"{CONTROL}{rpc}"
        with pytest.raises(PermissionDenied, match=OUTSIDE):
            finish(authorize_request(WEB, method, message(ref="db"), state))
        finish(authorize_request(OPERATOR, method, message(ref="db"), state))
    request = stacks_pb2.RollbackStackRequest(ref="web")
    with pytest.raises(PermissionDenied, match="--privileged"):
        finish(authorize_request(WEB, f"{CONTROL}RollbackStack", request, state))
    remove = stacks_pb2.RemoveStackRequest(ref="web")
    finish(authorize_request(WEB, f"{CONTROL}RemoveStack", remove, state))


def test_who_changes_how_a_secret_is_read_has_the_power_of_its_followers(state: State) -> None:
    powers = stack(
        "web",
        service("web", "main", secret="key", privileged=True),
        secrets=(payload("web", "key", b"{{.Node.Hostname}}"),),
    )
    applied(state, powers)
    plain = payload("web", "key", b"{{.Node.Hostname}}")
    expanded = replace(plain, spec=replace(plain.spec, templating=Driver(name="golang")))
    assert "--privileged" in refused(OPERATOR, state, stack("web", secrets=(expanded,)))


def test_files_of_a_container_that_may_run_with_power_need_an_admin(state: State) -> None:
    """As for an update: a container keeps its files, and may return to its spec of before."""
    container = replace(service("web", "main", privileged=True), mode=ContainerMode())
    applied(state, stack("web", container))
    harmless = replace(service("web", "main"), mode=ContainerMode())
    assert "--privileged" in refused(OPERATOR, state, stack("web", harmless))
