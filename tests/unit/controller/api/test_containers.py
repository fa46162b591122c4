"""Containers and tasks as `ps` lists them, and what a name means."""

from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from controller.api.queries.containers import (
    ContainerQuery,
    container_view,
    find_container,
    find_containers,
    shown,
)
from controller.brain.slices import finish
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.docker.containers.views import ContainerState
from pyswarm_core.errors import InvalidArgument, NotFound
from pyswarm_core.objects import Endpoint, HealthState, Service, Task, TaskDetail
from pyswarm_core.specs import PortConfig, Protocol
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from pyswarm_core.volumes.mounts import Mount, MountType
from tests.fixtures import build
from tests.fixtures.build import NOW

FIRST, SECOND_ID = "a" * 25, "b" * 25
"""Ids of the tasks of web.1."""


def container(name: str, at: int, image: str = "busybox", network: str = "") -> Service:
    spec = build.template(image, networks=[network] if network else [])
    labels = {"name": name}
    spec = replace(spec, container_spec=replace(spec.container_spec, labels=labels))
    made = replace(build.container(name, spec=spec), created_at=Instant(NOW + at * SECOND))
    if name != "db":
        return made
    ports = (PortConfig(target_port=5432, published_port=15432),)
    return replace(
        made,
        spec=replace(made.spec, endpoint_spec=replace(made.spec.endpoint_spec, ports=ports)),
        endpoint=Endpoint(ports=ports),
    )


def tasks() -> Iterable[Task]:
    healthy = TaskDetail(serving=True, health=HealthState.HEALTHY)
    failed = TaskDetail(exit_code=3)
    yield build.task("web.1", task_id=FIRST, node="n1", state=TaskState.FAILED, created=NOW,
                     desired=TaskState.SHUTDOWN, detail=failed)  # fmt: skip
    yield build.task("web.1", task_id=SECOND_ID, node="n2", created=NOW + SECOND)
    yield build.task("db.1", node="n1", created=NOW + 2 * SECOND, detail=healthy)
    yield build.task("old.1", node="n2", state=TaskState.COMPLETE, detail=TaskDetail(exit_code=0))
    yield build.task("bad.1", node="n2", state=TaskState.REJECTED)
    yield build.task("loop.1", state=TaskState.READY, restarts=1, node="n1")


@pytest.fixture
def state() -> State:
    services = [
        replace(build.service("web"), created_at=NOW),
        container("db", 5, "postgres:15", "net"),
        container("old", 6),
        container("bad", 7),
        container("loop", 8),
        container("new", 9),
    ]
    return build.state(
        nodes=build.nodes(2), services=services, tasks=tasks(), networks=[build.network("net")]
    )


def everything(_: State, __: str) -> bool:
    return True


def ids(state: State, *filters: str, every: bool = True, last: int = 0) -> list[str]:
    return finish(find_containers(state, ContainerQuery(every, last, filters), everything))


def test_containers_that_the_caller_may_not_see_are_neither_listed_nor_named(state: State) -> None:
    def sees(_: State, object_id: str) -> bool:
        return object_id in ("web", "old", "bad", SECOND_ID)

    def seen(*filters: str, last: int = 0) -> list[str]:
        return finish(
            find_containers(state, ContainerQuery(all=True, last=last, filters=filters), sees)
        )

    assert seen() == ["bad", "old", SECOND_ID]
    assert seen(last=1) == ["bad"]
    assert seen("before=bad") == ["old", SECOND_ID]
    assert seen("since=web.1") == ["bad", "old"]
    for key in ("before", "since"):
        for ref in ("db", "new", "nosuch"):
            with pytest.raises(NotFound, match=f"^No such container: {ref}: "):
                seen(f"{key}={ref}")


def test_running_containers_are_listed_newest_first_others_on_request(state: State) -> None:
    assert ids(state, every=False) == ["loop", "db", SECOND_ID]
    assert ids(state) == ["new", "loop", "bad", "old", "db", SECOND_ID, FIRST]
    assert ids(state, every=False, last=2) == ["new", "loop"]


STATES = {
    "new": ContainerState.CREATED,
    "loop": ContainerState.RESTARTING,
    "bad": ContainerState.CREATED,
    "old": ContainerState.EXITED,
    "db": ContainerState.RUNNING,
    FIRST: ContainerState.EXITED,
}


@pytest.mark.parametrize("container_id", STATES)
def test_states_are_dockers(container_id: str, state: State) -> None:
    view = container_view(state, container_id)
    assert view is not None
    assert view.state is STATES[container_id]


def test_a_container_has_its_services_id_and_a_replica_its_tasks(state: State) -> None:
    db, replica = container_view(state, "db"), container_view(state, SECOND_ID)
    assert db is not None
    assert replica is not None
    assert (db.id, db.name, db.service_name, db.node_name) == ("db", "db", "", "n1")
    assert (db.networks, [port.published_port for port in db.ports]) == (("net",), [15432])
    assert (replica.name, replica.service_name) == (f"web.1.{SECOND_ID}", "web")
    assert replica.networks == ("bridge",)
    assert replica.labels["com.docker.swarm.task.name"] == replica.name
    assert container_view(state, "gone") is None


FILTERS = {
    "name=d": ["bad", "old", "db"],
    "name=^d": ["db"],
    "name=ld$": ["old"],
    "name=^/db$": ["db"],
    "id=lo": ["loop"],
    "label=name=db": ["db"],
    "label=com.docker.swarm.task": [SECOND_ID, FIRST],
    "status=exited": ["old", FIRST],
    "exited=3": [FIRST],
    "exited=0": ["old"],
    "ancestor=postgres:15": ["db"],
    "ancestor=docker.io/library/postgres:15": ["db"],
    "ancestor=postgres": [],
    "network=net": ["db"],
    "network=bridge": ["new", "loop", "bad", "old", SECOND_ID, FIRST],
    "publish=15432": ["db"],
    "publish=15000-16000/tcp": ["db"],
    "publish=15432/udp": [],
    "expose=5432": ["db"],
    "health=healthy": ["db"],
    "health=none": ["new", "loop", "bad", "old", SECOND_ID, FIRST],
    "before=old": ["db", SECOND_ID, FIRST],
    "since=loop": ["new"],
    "is-task=true": [SECOND_ID, FIRST],
    "is-task=false": ["new", "loop", "bad", "old", "db"],
    "node=n1": ["loop", "db", FIRST],
    "service=web": [SECOND_ID, FIRST],
}


@pytest.mark.parametrize("given", FILTERS)
def test_filters(given: str, state: State) -> None:
    assert ids(state, given) == FILTERS[given]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("volume=data-1", [SECOND_ID, FIRST]),
        ("volume=data-2", []),
        ("volume=/data", [SECOND_ID, FIRST]),
        ("volume=/data/", [SECOND_ID, FIRST]),
        ("volume=/srv", ["new"]),
        ("volume=/in", ["new"]),
        ("volume=dat", []),
    ],
)
def test_the_filter_of_volumes(given: str, expected: list[str], state: State) -> None:
    web, new = (state.services[build.service(name).id] for name in ("web", "new"))
    container = new.spec.task_template.container_spec
    bind = Mount(type=MountType.BIND, source="/srv", target="/in/")
    template = replace(new.spec.task_template, container_spec=replace(container, mounts=(bind,)))
    new = replace(new, spec=replace(new.spec, task_template=template))
    web = replace(web, spec=build.with_mount(web.spec, "data-{{.Task.Slot}}"))
    state.apply(Writes(objects=(web, new)))
    assert ids(state, given) == expected


def test_a_removed_container_is_listed_until_its_task_has_ended(state: State) -> None:
    for name in ("db", "old", "new"):
        service = state.services[build.service(name).id]
        state.apply(Writes(objects=(replace(service, removing=True),)))
    assert ids(state, "is-task=false") == ["loop", "bad", "db"]


def test_a_status_lists_those_that_do_not_run_too(state: State) -> None:
    assert ids(state, "status=created", every=False) == ["new", "bad"]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("status=busy", "expected one of created, running"),
        ("publish=x", r"expected PORT\[-PORT\]"),
        ("nmae=web", "did you mean name"),
    ],
)
def test_a_wrong_filter_is_refused(given: str, error: str, state: State) -> None:
    with pytest.raises(InvalidArgument, match=error):
        ids(state, given)
    with pytest.raises(NotFound, match="No such container: nothing"):
        ids(state, "before=nothing")


def test_a_name_means_a_container_a_service_or_the_task_of_a_slot(state: State) -> None:
    def named(ref: str) -> tuple[str, str]:
        found = shown(finish(find_container(state, ref)))
        return found.service.spec.name, found.task.task.id if found.task else ""

    assert named("db") == ("db", "db.1")
    assert named("new") == ("new", "")
    assert named("web") == ("web", "")
    assert named("web.1") == ("web", SECOND_ID)
    assert named(f"web.1.{FIRST}") == ("web", FIRST)
    assert named("aaaa") == ("web", FIRST)
    for wrong in ("nothing", f"db.1.{FIRST}", "web.2"):
        with pytest.raises(NotFound, match=f"^No such container: {wrong}: "):
            named(wrong)


def test_networks_are_named(state: State) -> None:
    assert shown(finish(find_container(state, "db"))).networks == {"net": "net"}
    assert shown(finish(find_container(state, "web"))).networks == {"bridge": "bridge"}


def test_udp_ports_differ_from_tcp(state: State) -> None:
    port = PortConfig(target_port=53, published_port=53, protocol=Protocol.UDP)
    service = state.services[build.service("db").id]
    state.apply(Writes(objects=(replace(service, endpoint=Endpoint(ports=(port,))),)))
    assert ids(state, "publish=53/udp") == ["db"]
    assert ids(state, "publish=53") == []


def test_a_container_that_waits_has_the_command_of_its_last_task(state: State) -> None:
    told = TaskDetail(exit_code=1, command="sh -c 'sleep 1'")
    ended = build.task("loop.1", task_id="l0", state=TaskState.FAILED, node="n1", detail=told)
    waits = build.task("loop.1", task_id="l1", state=TaskState.PENDING, restarts=1, created=NOW)
    state.apply(Writes(tasks=[ended, waits]))
    view = container_view(state, "loop")
    assert view is not None
    assert (view.task_id, view.command) == ("l1", ("sh", "-c", "sleep 1"))
