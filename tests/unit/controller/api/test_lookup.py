"""Why a name has no running task, and what to do."""

import pytest
from msgspec.structs import replace

from controller.api.queries.lookup import find_target, task_name
from controller.brain.slices import finish
from pyswarm_core.errors import Conflict, NotFound
from pyswarm_core.objects import Service
from pyswarm_core.states import TaskState
from tests.fixtures import build

DB = build.container("db")
STOPPED = replace(DB, spec=replace(DB.spec, stopped=True))
START, WHY = "`pyswarm start db` starts it", "`pyswarm why db` says why"


@pytest.mark.parametrize(
    ("service", "state", "said"),
    [
        (DB, TaskState.COMPLETE, f"container db is not running: {START}"),
        (STOPPED, TaskState.PENDING, f"container db is not running: {START}"),
        (DB, TaskState.PENDING, f"container db is not running: {WHY}"),
        (build.service("db"), TaskState.COMPLETE, f"service db has no running task: {WHY}"),
    ],
)
def test_what_does_not_run_says_what_to_do(service: Service, state: TaskState, said: str) -> None:
    found = build.state(
        nodes=build.nodes(1), services=[service], tasks=[build.task("db.1", node="n1", state=state)]
    )
    with pytest.raises(Conflict, match=f"^{said}$"):
        finish(find_target(found, "db"))


def of_project(project: str, name: str) -> Service:
    made = build.service(f"{project}_{name}")
    labels = {"com.docker.compose.project": project, "com.docker.compose.service": name}
    return replace(made, spec=replace(made.spec, labels=labels))


def test_the_name_of_a_container_in_the_file_is_the_first_slot() -> None:
    named = of_project("shop", "web")
    labels = {**named.spec.labels, "com.docker.compose.container-name": "front"}
    named = replace(named, spec=replace(named.spec, labels=labels))
    state = build.state(
        nodes=build.nodes(1),
        services=[of_project("shop", "db"), named],
        tasks=[
            build.task(name, node="n1", state=TaskState.RUNNING)
            for name in ("shop_db.1", "shop_web.2", "shop_web.1")
        ],
    )
    assert finish(find_target(state, "front")).id == "shop_web.1"
    for other in ("fron", ""):
        with pytest.raises(NotFound):
            finish(find_target(state, other))


@pytest.mark.parametrize(
    ("ref", "found"),
    [
        ("my-shop-web-1", "my-shop_web.1"),
        ("my-shop-web-2", "my-shop_web.2"),
        ("my-shop-2", ""),
        ("my-shop-web-3", ""),
        ("my-shop-web-x", ""),
        ("web-1", ""),
        ("-1", ""),
        ("plain-web-1", ""),
    ],
)
def test_a_container_has_the_name_that_compose_gives_it(ref: str, found: str) -> None:
    plain = build.service("plain_web")
    state = build.state(
        nodes=build.nodes(1),
        services=[of_project("my-shop", "web"), of_project("my", "shop"), plain],
        tasks=[
            build.task(name, node="n1", state=TaskState.RUNNING)
            for name in ("my-shop_web.1", "my-shop_web.2", "my_shop.1", "plain_web.1")
        ],
    )
    if found:
        assert task_name(state, finish(find_target(state, ref))) == found
    else:
        with pytest.raises(NotFound, match=f"No such container: {ref}"):
            finish(find_target(state, ref))
