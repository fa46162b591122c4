"""Binds that operators may make: beneath the fleet's allowed paths, by their names alone. What the
names lead to is the agent's (tests/unit/agent/runtime/test_bind_sources.py).
"""

from typing import Any

import pytest
from msgspec.structs import replace

from agent.runtime.base import RuntimeFailed
from agent.runtime.isolation.binds import source_of
from controller.api.permissions import authorize_request
from controller.brain.slices import finish
from controller.identity.caller import Caller, CallerKind, Role
from controller.identity.policy import CONTROL, STACK_LABEL
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import streams_pb2
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.decision import Writes
from pyswarm_core.errors import PermissionDenied
from pyswarm_core.objects import PreviousSpec
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.state import State
from pyswarm_core.templates.context import Context
from pyswarm_core.templates.specs import expanded_mount
from pyswarm_core.validation import cluster_problems
from pyswarm_core.validation.templates.problems import expanded_problems
from pyswarm_core.volumes.mounts import BindOptions, Mount, MountType
from tests.fixtures import build

OPERATOR = Caller(CallerKind.USER, "u1", "ann", Role.OPERATOR, ())
ADMIN = replace(OPERATOR, role=Role.ADMIN)
OF_STACK = replace(OPERATOR, stacks=("web",))
ALLOWED = ("/srv", "/data", "/data/deep")


def bind(source: str, **options: Any) -> Mount:
    found = BindOptions(**options) if options else None
    return Mount(type=MountType.BIND, source=source, target="/x", bind_options=found)


def spec_with(*mounts: Mount, spec: ServiceSpec | None = None) -> ServiceSpec:
    spec = spec or build.service("web").spec
    container = replace(spec.task_template.container_spec, mounts=mounts)
    return replace(spec, task_template=replace(spec.task_template, container_spec=container))


def state_with(*mounts: Mount, allowed: tuple[str, ...] = ALLOWED, **fields: Any) -> State:
    web = replace(build.service("web"), spec=spec_with(*mounts), **fields)
    state = build.state(nodes=build.nodes(1), services=[web])
    allow(state, *allowed)
    return state


def allow(state: State, *paths: str) -> None:
    spec = replace(state.cluster.spec, allowed_bind_paths=paths)
    state.apply(Writes(cluster=replace(state.cluster, spec=spec)))


def ask(caller: Caller, rpc: str, request: Any, state: State) -> Any:
    return finish(authorize_request(caller, f"{CONTROL}{rpc}", request, state))


def creating(*mounts: Mount) -> pb.CreateServiceRequest:
    request = pb.CreateServiceRequest()
    to_proto(spec_with(*mounts), request.spec)
    return request


def updating(spec: ServiceSpec) -> pb.UpdateServiceRequest:
    request = pb.UpdateServiceRequest(ref="web")
    to_proto(spec, request.spec)
    return request


def mounts_of(request: Any) -> tuple[Mount, ...]:
    return from_proto(ServiceSpec, request.spec).task_template.container_spec.mounts


def refused(rpc: str, request: Any, state: State, caller: Caller = OPERATOR) -> None:
    with pytest.raises(PermissionDenied, match=r'--mount "?type=bind.* needs the role admin'):
        ask(caller, rpc, request, state)
    ask(ADMIN, rpc, request, state)


@pytest.mark.parametrize(
    ("source", "beneath"),
    [
        ("/srv", "/srv"),
        ("/srv/", "/srv"),
        ("/srv/a/b", "/srv"),
        ("/data/x", "/data"),
        ("/data/deep/x", "/data/deep"),
        ("/data/deeper", "/data"),
    ],
)
def test_a_bind_beneath_an_allowed_path_is_an_operator_s_and_carries_the_path(
    source: str, beneath: str
) -> None:
    request = creating(bind(source, propagation="rslave"), Mount(source="vol", target="/v"))
    authorized = ask(OPERATOR, "CreateService", request, state_with())
    assert mounts_of(authorized) == (
        bind(source, propagation="rslave", beneath=beneath),
        Mount(source="vol", target="/v"),
    )
    assert mounts_of(request)[0] == bind(source, propagation="rslave")
    again = ask(OPERATOR, "CreateService", authorized, state_with())
    assert mounts_of(again) == mounts_of(authorized)


@pytest.mark.parametrize(
    "source",
    [
        "/",
        "//",
        "/etc",
        "/srv2",
        "/sr",
        "srv/a",
        "./srv",
        "//srv",
        "/srv//a",
        "/srv/../etc",
        "/srv/a/../../etc",
        "/srv/.",
        "/srv/./a",
        "/srv/..",
        "/SRV",
        " /srv",
        "/srv\n/../etc",
        "\n/srv",
        "",
        '{{"/etc"}}',
        '/srv/{{"/../../etc"}}',
        '/{{"srv"}}/a',
    ],
)
def test_no_other_source_is(source: str) -> None:
    refused("CreateService", creating(bind(source)), state_with())


def test_a_template_beneath_is_judged_by_the_agent_as_it_was_expanded() -> None:
    """agent/volumes/expanding.py validates it, and the agent keeps it beneath the path."""
    source = '/srv/{{print "." "."}}/etc'
    authorized = ask(OPERATOR, "CreateService", creating(bind(source)), state_with())
    (mount,) = mounts_of(authorized)
    assert mount == bind(source, beneath="/srv")
    expanded = expanded_mount(mount, Context())
    assert expanded == bind("/srv/../etc", beneath="/srv")
    container = replace(build.service("web").spec.task_template.container_spec, mounts=(expanded,))
    assert "expected a source beneath /srv" in str(list(expanded_problems(container)))
    with pytest.raises(RuntimeFailed, match="it leads out of the allowed path /srv"):
        source_of(expanded)


def test_a_newline_in_a_name_is_no_way_out_and_no_host_has_it() -> None:
    """The name is beneath the path; validation refuses it."""
    authorized = ask(OPERATOR, "CreateService", creating(bind("/srv/a\nb")), state_with())
    assert mounts_of(authorized) == (bind("/srv/a\nb", beneath="/srv"),)


@pytest.mark.parametrize("propagation", ["shared", "rshared"])
def test_mounts_that_appear_on_the_host_are_an_admin_s(propagation: str) -> None:
    refused("CreateService", creating(bind("/srv/a", propagation=propagation)), state_with())


@pytest.mark.parametrize("forged", ["/", "/etc", "/srv/../etc", "/srv", "/data"])
def test_a_path_that_the_caller_names_itself_allows_nothing(forged: str) -> None:
    refused("CreateService", creating(bind("/etc/passwd", beneath=forged)), state_with())
    authorized = ask(
        OPERATOR, "CreateService", creating(bind("/srv/a", beneath=forged)), state_with()
    )
    assert mounts_of(authorized) == (bind("/srv/a", beneath="/srv"),)


def test_all_binds_are_looked_at() -> None:
    refused("CreateService", creating(bind("/srv/a"), bind("/etc")), state_with())


def test_without_allowed_paths_every_bind_is_an_admin_s() -> None:
    refused("CreateService", creating(bind("/srv/a")), state_with(allowed=()))


def test_a_user_of_a_stack_binds_nothing() -> None:
    """What is beneath a path belongs to no stack: it would read the files of others."""
    spec = replace(spec_with(bind("/srv/a")), labels={STACK_LABEL: "web"})
    request = pb.CreateServiceRequest()
    to_proto(spec, request.spec)
    refused("CreateService", request, state_with(), OF_STACK)


def test_an_admin_s_bind_stays_as_it_is() -> None:
    authorized = ask(ADMIN, "CreateService", creating(bind("/srv/a")), state_with())
    assert mounts_of(authorized) == (bind("/srv/a"),)


def test_an_operator_who_scales_a_service_changes_none_of_its_tasks() -> None:
    state = state_with(bind("/srv/a"), bind("/etc"))
    scaled = updating(replace(state.services[build.service("web").id].spec, labels={"a": "b"}))
    assert ask(OPERATOR, "UpdateService", scaled, state) is scaled


def test_one_who_changes_its_tasks_confines_them() -> None:
    state = state_with(bind("/srv/a"))
    spec = next(iter(state.services.values())).spec
    template = replace(spec.task_template, force_update=spec.task_template.force_update + 1)
    authorized = ask(
        OPERATOR, "UpdateService", updating(replace(spec, task_template=template)), state
    )
    assert mounts_of(authorized) == (bind("/srv/a", beneath="/srv"),)
    state = state_with(bind("/etc"))
    changed = spec_with(bind("/etc"), spec=replace(spec, task_template=template))
    refused("UpdateService", updating(changed), state)


def test_a_service_created_again_from_its_file_does_not_change() -> None:
    """The file does not have what the controller added."""
    state = state_with(bind("/srv/a", beneath="/srv"))
    authorized = ask(OPERATOR, "UpdateService", updating(spec_with(bind("/srv/a"))), state)
    assert mounts_of(authorized) == (bind("/srv/a", beneath="/srv"),)


@pytest.mark.parametrize(
    ("earlier", "is_allowed"),
    [(bind("/srv/a", beneath="/srv"), True), (bind("/srv/a"), False), (bind("/etc"), False)],
)
def test_a_rollback_is_an_operator_s_if_the_earlier_binds_are_confined(
    earlier: Mount, is_allowed: bool
) -> None:
    previous = (PreviousSpec(version=1, spec=spec_with(earlier)),)
    state = state_with(spec_version=2, template_version=2, previous_specs=previous)
    request = pb.RollbackServiceRequest(ref="web")
    if is_allowed:
        ask(OPERATOR, "RollbackService", request, state)
    else:
        refused("RollbackService", request, state)


@pytest.mark.parametrize(
    ("mount", "is_allowed"),
    [(bind("/srv/a", beneath="/srv"), True), (bind("/srv/a"), False)],
)
def test_so_are_commands_in_its_tasks_while_the_path_is_allowed(
    mount: Mount, is_allowed: bool
) -> None:
    state = state_with(mount)
    web = next(iter(state.services.values()))
    state.apply(Writes(tasks=[replace(build.task("web.1", node="n1"), service_id=web.id)]))
    request = streams_pb2.ExecRequest(ref="web.1")
    if is_allowed:
        ask(OPERATOR, "Exec", request, state)
        allow(state, "/data")
    refused("Exec", request, state)


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        (("/",), "expected a path below /"),
        (("",), "expected a path below /"),
        (("srv",), "expected an absolute path without"),
        (("/srv/",), "without a slash at its end"),
        (("/srv/../etc",), "expected an absolute path without . and .."),
        (("//srv",), "expected an absolute path without . and .."),
        (("/srv\n",), "expected an absolute path"),
        (("/srv", "/srv"), "expected each path once"),
        (tuple(f"/p{n}" for n in range(65)), "expected at most 64"),
    ],
)
def test_what_cannot_be_an_allowed_path_is_refused(paths: tuple[str, ...], told: str) -> None:
    spec = replace(build.state().cluster.spec, allowed_bind_paths=paths)
    (problem,) = cluster_problems(spec)
    assert str(problem).startswith("--allowed-bind-paths: ")
    assert told in str(problem)
