"""The verbs that change services, against a scripted controller."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from cli.compose.deploying.applying import Asked, recreated
from cli.compose.mapping import scales_of
from pyswarm_core.api.v1 import containers_pb2 as cp
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.objects import Service
from pyswarm_core.specs import ServiceSpec
from tests.unit.cli import objects
from tests.unit.cli.compose import made
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.scripted import Script

COMPOSE = ("compose", "-p", "shop")
SERVICES: dict[str, Service] = {
    one.id: one
    for one in (made.service("app", "db", replicas=2), made.service("db"), made.service("cache"))
}


def _found(services: dict[str, Service]) -> Callable[[Any], pb.ServiceReply]:
    return lambda request: objects.service_reply(services[request.ref])


@pytest.fixture
def shop(script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Script:
    monkeypatch.chdir(tmp_path)
    script.on("ListServices", objects.services_reply(*SERVICES.values()))
    script.on("ListContainers", cp.ListContainersReply())
    script.on("ListTasks", objects.tasks_reply())
    script.on("GetService", _found(dict(SERVICES)))
    script.on("UpdateService", _found(dict(SERVICES)))
    script.on("WatchService", [objects.progress(1, 1)])
    script.on("SignalTask", pb.SignalTaskReply())
    return script


def changes(script: Script) -> list[tuple[str, ServiceSpec]]:
    """The services that were changed, and their new specs, in order."""
    return [
        (one.ref, from_proto(ServiceSpec, one.spec)) for one in script.requests("UpdateService")
    ]


def test_dependents_stop_before_what_they_depend_on(shop: Script, pyswarm: Pyswarm) -> None:
    ran = pyswarm(*COMPOSE, "stop")
    assert (ran.code, ran.out) == (0, "")
    found = [(ref, spec.stopped) for ref, spec in changes(shop)]
    assert found == [("id-of-cache", True), ("id-of-app", True), ("id-of-db", True)]
    assert shop.requests("SignalTask") == []


def test_a_stop_within_some_seconds_ends_the_tasks(shop: Script, pyswarm: Pyswarm) -> None:
    shop.on("WatchService", [objects.progress(0, 0)])
    assert pyswarm(*COMPOSE, "stop", "-t", "3", "db").code == 0
    (first, *_) = shop.requests("SignalTask")
    assert (first.stop, first.timeout) == (True, 3 * 10**9)
    ran = pyswarm(*COMPOSE, "stop", "-t", "soon")
    assert (ran.code, "--timeout" in ran.err) == (2, True)


def test_what_is_stopped_starts_again(shop: Script, pyswarm: Pyswarm) -> None:
    stopped = replace(
        SERVICES[made.service("db").id], spec=replace(made.service("db").spec, stopped=True)
    )
    shop.on("ListServices", objects.services_reply(made.service("app", "db"), stopped))
    shop.on("GetService", _found({**SERVICES, stopped.id: stopped}))
    assert pyswarm(*COMPOSE, "start").code == 0
    assert [(ref, spec.stopped) for ref, spec in changes(shop)] == [("id-of-db", False)]


def test_a_service_that_is_not_on_the_fleet_cannot_start(
    shop: Script, pyswarm: Pyswarm, tmp_path: Any
) -> None:
    (tmp_path / "compose.yaml").write_text('name: shop\nservices: {new: {image: "web:1"}}\n')
    ran = pyswarm("compose", "start", "new")
    assert ran.code == 1
    assert 'service "new" has no container to start: `pyswarm compose up -d new`' in ran.err


def test_a_restart_replaces_the_tasks_as_an_update(shop: Script, pyswarm: Pyswarm) -> None:
    assert pyswarm(*COMPOSE, "restart", "db").code == 0
    ((ref, spec),) = changes(shop)
    assert (ref, spec.task_template.force_update) == ("id-of-db", 1)


def test_a_restart_without_dependents_makes_no_new_version(shop: Script, pyswarm: Pyswarm) -> None:
    view = objects.tasks_reply().tasks[0]
    shop.on("RestartTask", view)
    assert pyswarm(*COMPOSE, "restart", "--no-deps", "db").code == 0
    assert changes(shop) == []
    assert len(shop.requests("RestartTask")) == 2


def test_killed_services_stay_stopped(shop: Script, pyswarm: Pyswarm) -> None:
    assert pyswarm(*COMPOSE, "kill", "db").code == 0
    assert [(ref, spec.stopped) for ref, spec in changes(shop)] == [("id-of-db", True)]
    assert {one.signal for one in shop.requests("SignalTask")} == {"SIGKILL"}


def test_another_signal_changes_nothing(shop: Script, pyswarm: Pyswarm) -> None:
    assert pyswarm(*COMPOSE, "kill", "-s", "HUP", "db").code == 0
    assert changes(shop) == []
    ran = pyswarm(*COMPOSE, "kill", "-s", "NOPE", "db")
    assert (ran.code, "--signal" in ran.err) == (2, True)


def test_scale_sets_the_number_of_replicas(shop: Script, pyswarm: Pyswarm) -> None:
    assert pyswarm(*COMPOSE, "scale", "app=5").code == 0
    ((ref, spec),) = changes(shop)
    assert (ref, getattr(spec.mode, "replicas", 0)) == ("id-of-app", 5)


@pytest.mark.parametrize("text", ["app", "=3", "app=x", "app=-1", "app=1.5", "app="])
def test_a_scale_that_is_not_valid_is_refused(shop: Script, pyswarm: Pyswarm, text: str) -> None:
    ran = pyswarm(*COMPOSE, "scale", text)
    assert (ran.code, ran.err.startswith("Error: --scale: ")) == (2, True)
    assert changes(shop) == []


def test_scales_are_numbers_by_service() -> None:
    assert scales_of(("a=1", "b=2", "a=3")) == {"a": 3, "b": 2}
    with pytest.raises(InvalidArgument):
        scales_of(("a",))


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ({}, ()),
        ({"force_recreate": True}, ("db", "app")),
        ({"force_recreate": True, "services": ("app",)}, ("app",)),
        ({"force_recreate": True, "always_recreate_deps": True, "services": ("app",)},
         ("db", "app")),
        ({"always_recreate_deps": True, "services": ("app",)}, ("db",)),
    ],
)  # fmt: skip
def test_which_services_are_replaced_although_nothing_changed(
    flags: dict[str, Any], found: tuple[str, ...]
) -> None:
    assert recreated(Asked(**flags), ("db", "app")) == found


@pytest.mark.parametrize(
    "words",
    [
        ("up", "--build", "--no-build"),
        ("up", "--force-recreate", "--no-recreate"),
        ("up", "-d", "--abort-on-container-exit"),
        ("up", "--wait", "--exit-code-from", "web"),
        ("up", "--attach", "web", "--attach-dependencies"),
        ("up", "--wait-timeout", "3"),
        ("create", "--build", "--no-build"),
    ],
)
def test_flags_that_exclude_each_other_are_refused(
    shop: Script, pyswarm: Pyswarm, words: tuple[str, ...]
) -> None:
    ran = pyswarm(*COMPOSE, *words)
    assert (ran.code, ran.out) == (2, "")
    assert shop.asked == []


def test_a_command_runs_in_the_container_of_the_index(shop: Script, pyswarm: Pyswarm) -> None:
    reply = cp.ListContainersReply()
    for number in ("1", "2"):
        to_proto(made.view("app", number), reply.containers.add())
    shop.on("ListContainers", reply)
    ran = pyswarm(*COMPOSE, "exec", "-T", "--index", "3", "app", "true")
    assert ran.code == 1
    assert "--index: service app has no container 3: it has 1, 2" in ran.err
    ran = pyswarm(*COMPOSE, "exec", "-T", "db", "true")
    assert (ran.code, ran.err) == (
        1,
        'Error: service "db" is not running: `pyswarm why shop_db` says why\n',
    )
