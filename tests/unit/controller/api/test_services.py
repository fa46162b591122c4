"""Creating, updating and removing services, as decided from a state."""

import re

import msgspec
import pytest

from controller.api.changes import services
from controller.api.changes.names import random_name
from controller.api.changes.services import Update
from controller.api.queries import views
from controller.brain import revisions
from pyswarm_core import limits, specs
from pyswarm_core.decision import Writes
from pyswarm_core.errors import AlreadyExists, Conflict, InvalidArgument, NotFound
from pyswarm_core.indexes.in_place import awaits_in_place, refuses_limits
from pyswarm_core.objects import Service, TaskDetail, Version
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from tests.fixtures import build
from tests.fixtures.build import NOW, Numbered

replace = msgspec.structs.replace
SPEC = build.service("web").spec


def create(state: State, spec: ServiceSpec) -> Service:
    writes, service = services.create_service(
        state, spec, (), NOW, Numbered(100 * len(state.services) + 1)
    )
    state.apply(writes)
    return service


def update(state: State, spec: ServiceSpec, index: int | None = None) -> Service:
    current = state.services[state.service_of_name["web"]]
    based_on = Version(index=current.version.index if index is None else index)
    writes, service = services.update_service(
        state, Update("web", based_on, spec), (), NOW, Numbered(5000)
    )
    state.apply(writes)
    return service


def with_image(image: str) -> ServiceSpec:
    return replace(SPEC, task_template=build.template(image))


def limited(
    nano_cpus: int = 0, memory: int = 0, pids: int = 0, swap: int = 0, **changes: object
) -> ServiceSpec:
    limits = specs.Limits(nano_cpus=nano_cpus, memory_bytes=memory, pids=pids)
    resources = specs.Resources(limits=limits, swap_bytes=swap)
    return replace(SPEC, task_template=replace(SPEC.task_template, resources=resources, **changes))


def test_a_new_service_has_its_first_version() -> None:
    service = create(build.state(), SPEC)
    assert (service.version.index, service.spec_version, service.template_version) == (1, 1, 1)
    assert (service.created_at, service.updated_at, service.spec) == (NOW, NOW, SPEC)


def test_a_name_is_taken_once_and_free_when_its_service_is_being_removed() -> None:
    state = build.state()
    first = create(state, SPEC)
    with pytest.raises(AlreadyExists, match=f'"web" exists already, with the id {first.id}'):
        create(state, SPEC)
    state.apply(services.remove_service(state, "web", NOW)[0])
    assert create(state, SPEC).id != first.id


def test_a_service_without_a_name_gets_one_from_its_id() -> None:
    state = build.state()
    names = {create(state, replace(SPEC, name="")).spec.name for _ in range(5)}
    assert len(names) == 5
    assert all("_" in name for name in names)


def test_a_random_name_that_is_taken_is_numbered() -> None:
    name = random_name("0" * 25, ())
    assert random_name("0" * 25, {name}) == f"{name}1"


def test_networks_are_stored_by_id() -> None:
    network = replace(build.network("app"), id="netid")
    state = build.state(networks=[network])
    spec = replace(SPEC, task_template=build.template(networks=["app"]))
    assert create(state, spec).spec.task_template.networks[0].target == "netid"
    twice = replace(SPEC, name="two", task_template=build.template(networks=["app", "netid"]))
    with pytest.raises(InvalidArgument, match="expected each network once"):
        create(state, twice)
    missing = replace(SPEC, name="three", task_template=build.template(networks=["db"]))
    with pytest.raises(NotFound, match="network db not found"):
        create(state, missing)


def test_an_update_from_an_older_version_is_refused() -> None:
    state = build.state()
    create(state, SPEC)
    update(state, with_image("busybox:2"))
    with pytest.raises(Conflict, match="out of sequence"):
        update(state, with_image("busybox:3"), index=1)


def test_the_same_spec_again_changes_nothing() -> None:
    state = build.state()
    service = create(state, SPEC)
    writes, same = services.update_service(
        state, Update("web", service.version, SPEC), (), NOW, Numbered()
    )
    assert (writes, same) == (Writes(), service)


@pytest.mark.parametrize(
    ("changed", "new_tasks"),
    [
        (with_image("busybox:2"), True),
        (replace(SPEC, task_template=build.template(memory=1 << 30)), True),
        (replace(SPEC, task_template=replace(SPEC.task_template, force_update=1)), True),
        (replace(SPEC, task_template=build.template(constraints=["node.role==worker"])), False),
        (replace(SPEC, task_template=build.template(delay=0)), False),
        (limited(memory=1 << 26), False),
        (limited(memory=1 << 26, swap=-1), False),
        (limited(nano_cpus=10**9, pids=9), False),
        (replace(SPEC, labels={"a": "1"}), False),
        (
            replace(SPEC, mode=specs.ReplicatedMode(replicas=3)),
            False,
        ),
    ],
    ids=[
        *("image", "reservation", "force", "placement", "restart"),
        *("memory", "swap", "cpu and pids", "labels", "replicas"),
    ],
)
def test_only_what_is_in_a_task_asks_for_new_tasks(changed: ServiceSpec, new_tasks: bool) -> None:
    state = build.state()
    create(state, SPEC)
    service = update(state, changed)
    assert service.spec_version == 2
    assert service.template_version == (2 if new_tasks else 1)
    assert [previous.version for previous in service.previous_specs] == [1]


def test_the_version_of_the_last_change_of_limits_is_known() -> None:
    state = build.state()
    assert create(state, SPEC).in_place_version == 0
    assert update(state, limited(memory=1 << 26)).in_place_version == 2
    assert update(state, replace(limited(memory=1 << 26), labels={"a": "1"})).in_place_version == 2
    both = update(state, limited(memory=1 << 27, force_update=1))
    assert (both.template_version, both.in_place_version) == (4, 4)


def test_a_task_has_or_awaits_or_refuses_its_services_limits() -> None:
    web = replace(build.service("web"), in_place_version=3)

    def shown(made_from: int, version: int = 0, error: str = "") -> tuple[bool, bool]:
        detail = TaskDetail(in_place_version=version, in_place_error=error)
        task = build.task("web.1", version=made_from, detail=detail)
        return awaits_in_place(web, task), refuses_limits(web, task)

    assert shown(3) == shown(4) == (False, False)
    assert shown(1) == shown(1, 2) == shown(1, 2, "too small") == (True, False)
    assert shown(1, 3) == (False, False)
    assert shown(1, 3, "too small") == (False, True)


def test_name_and_mode_stay() -> None:
    state = build.state()
    create(state, SPEC)
    with pytest.raises(InvalidArgument, match='cannot change: expected "web"'):
        update(state, replace(SPEC, name="shop"))
    with pytest.raises(InvalidArgument, match="the mode of a service cannot change"):
        update(state, replace(SPEC, mode=specs.GlobalMode()))


def test_previous_specs_are_kept_newest_first_up_to_the_limit() -> None:
    state = build.state()
    service = create(state, SPEC)
    for number in range(2, 20):
        service = update(state, with_image(f"busybox:{number}"))
    kept = [previous.version for previous in service.previous_specs]
    assert kept == list(range(18, 18 - limits.PREVIOUS_SPECS, -1))


def test_a_spec_that_a_living_task_is_made_from_is_kept() -> None:
    state = build.state(nodes=build.nodes(1))
    service = create(state, SPEC)
    old = replace(build.task("x.1", node="n1"), service_id=service.id)
    state.apply(Writes(tasks=[old]))
    for number in range(2, 20):
        service = update(state, with_image(f"busybox:{number}"))
    assert service.previous_specs[-1].version == 1
    assert service.template(1) == SPEC.task_template
    assert service.update_status
    assert service.update_status.from_version == 1
    service = replace(service, update_status=None)
    state.apply(Writes(objects=(service,), tasks=[replace(old, state=TaskState.SHUTDOWN)]))
    assert update(state, with_image("busybox:20")).previous_specs[-1].version == 10


def test_large_specs_never_outgrow_a_store_record() -> None:
    state = build.state()
    service = create(state, SPEC)
    for number in range(8):
        service = update(state, replace(SPEC, labels={"big": f"{number}" * 200_000}))
    size = len(msgspec.msgpack.encode(service))
    assert size < revisions.RECORD_BYTES_MAX + 10_000
    assert 1 <= len(service.previous_specs) < 8


def test_removing_twice_is_removing_once() -> None:
    state = build.state()
    service = create(state, SPEC)
    writes, removed = services.remove_service(state, "web", NOW)
    assert removed.removing
    state.apply(writes)
    assert services.remove_service(state, service.id, NOW) == (Writes(), removed)
    with pytest.raises(Conflict, match="being removed"):
        services.update_service(
            state, Update(service.id, removed.version, SPEC), (), NOW, Numbered()
        )


LOGIN = specs.RegistryLogin(registry="registry.test", username="ann", password="right")
OTHER = replace(LOGIN, password="other")


def logged_in(state: State, login: specs.RegistryLogin | None, spec: ServiceSpec = SPEC) -> Service:
    current = state.services[state.service_of_name["web"]]
    update = Update("web", current.version, spec, login)
    writes, service = services.update_service(state, update, (), NOW, Numbered())
    state.apply(writes)
    return service


def test_a_registry_login_is_kept_until_another_comes() -> None:
    state = build.state()
    state.apply(services.create_service(state, SPEC, (), NOW, Numbered(1), login=LOGIN)[0])
    assert logged_in(state, None, with_image("busybox:2")).registry_login == LOGIN
    assert logged_in(state, OTHER, with_image("busybox:2")).registry_login == OTHER


def test_another_registry_login_replaces_no_task() -> None:
    state = build.state()
    state.apply(services.create_service(state, SPEC, (), NOW, Numbered(1), login=LOGIN)[0])
    service = logged_in(state, OTHER)
    assert (service.spec_version, service.template_version) == (2, 1)
    assert logged_in(state, OTHER).version == service.version


def test_nobody_is_shown_a_registry_login() -> None:
    state = build.state()
    writes, service = services.create_service(state, SPEC, (), NOW, Numbered(1), login=LOGIN)
    state.apply(writes)
    assert views.service_summary(state, service).service == replace(service, registry_login=None)
    assert "right" not in repr(service)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (replace(LOGIN, registry=""), 'registry: value "" is not valid'),
        (replace(LOGIN, username="a:b"), 'username: value "a:b" is not valid'),
        (replace(LOGIN, password=""), 'password: value "" is not valid'),
        (replace(LOGIN, password="right\n"), 'password: value "" is not valid'),
        (replace(LOGIN, password="right" * 9999), "expected at most 16"),
    ],
)
def test_a_wrong_registry_login_is_refused_without_its_password(
    wrong: specs.RegistryLogin, said: str
) -> None:
    state = build.state()
    with pytest.raises(InvalidArgument, match=re.escape(said)) as caught:
        services.create_service(state, SPEC, (), NOW, Numbered(1), login=wrong)
    assert "right" not in str(caught.value)
